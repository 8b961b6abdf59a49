// A GPU goes on bit for bit, from its own file; a CPU reads that file, and a GPU a CPU's.
#include "tests/engine/restart.h"

namespace neurogen {
namespace {

RestartSettings settings_of(Random& random, DType compute, DType storage) {
  RestartSettings s;
  s.architecture = random_architecture(random);
  s.options.batch = 3;
  s.options.window = 40;
  s.options.compute = compute;
  s.options.decoder_storage = storage;
  s.options.threads = 0;
  s.options.workspace = Bytes{32} << 20;
  s.place = {true, 0};
  s.seed = 11;
  return s;
}

Plan plan_of(const RestartSettings& s, bool overlay = true) {
  return plan_graph(build_training(s.architecture, s.options).graph, kPlenty, overlay);
}

TEST(CudaCheckpoint, ARunThatWasCutIsTheRunThatNeverWas) {
  std::uint64_t seed = 0;
  for (const auto& [compute, storage] : {std::pair{DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}}) {
    SCOPED_TRACE(name_of(compute));
    Random random(seed++);
    const TemporaryDirectory directory;
    const RestartSettings s = settings_of(random, compute, storage);
    const Tokens text = random_text(random, directory, s.architecture, 7 * s.options.tokens() + 1);
    RunRecord whole, parts;
    run_part(s, plan_of(s), s.options, text, nullptr, s.steps, nullptr, 0, whole);
    CheckpointDirectory saved(directory.path("checkpoints"), 1, false);
    run_part(s, plan_of(s), s.options, text, nullptr, 9, &saved, 3, parts);
    const Checkpoint from(checkpoint_file(saved.path()));
    from.verify(from.tensors().size());
    run_part(s, plan_of(s, false), s.options, text, &from, s.steps, &saved, 5, parts);
    EXPECT_TRUE(parts == whole);
  }
}

TEST(CudaCheckpoint, FilesCrossBetweenDevices) {
  Random random(5);
  const TemporaryDirectory directory;
  const RestartSettings gpu = settings_of(random, DType::f32, DType::f32);
  RestartSettings cpu = gpu;
  cpu.options.threads = 2;
  cpu.options.workspace = 0;
  cpu.place = {};
  const Tokens text = random_text(random, directory, gpu.architecture, 7 * gpu.options.tokens() + 1);
  for (const auto& [one, other] : {std::pair{gpu, cpu}, {cpu, gpu}}) {
    RunRecord record;
    CheckpointDirectory saved(directory.path(one.place.gpu ? "gpu" : "cpu"), 1, false);
    run_part(one, plan_of(one), one.options, text, nullptr, 2, &saved, 2, record);
    const Checkpoint from(checkpoint_file(saved.path()));
    from.verify(from.tensors().size());
    Session session(build_training(other.architecture, other.options), plan_of(other), other.place, &from);
    restore(session, from);
    EXPECT_TRUE(persistent_bytes(session) == record.outcome.persistent);
  }
}

}  // namespace
}  // namespace neurogen
