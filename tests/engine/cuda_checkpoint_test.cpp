// A GPU resumes bit for bit from its own file; a CPU reads that file, and a GPU reads a CPU's.
#include "tests/engine/restart.h"
#include "tests/engine/small_brain.h"

namespace neurogen {
namespace {

RestartSettings settings_of(DType compute, DType storage) {
  RestartSettings s;
  s.architecture = brain(small_brain());
  s.options.batch = 3;
  s.options.window = 40;
  s.options.compute = compute;
  s.options.decoder_storage = storage;
  s.options.target.gpu = true;
  s.options.target.workspace = Bytes{32} << 20;
  s.place = {true, 0};
  s.seed = 11;
  return s;
}

Fit plan_of(const RestartSettings& s, bool overlay = true) {
  return planned(build_training(s.architecture, s.options), overlay ? kPlenty : kApart);
}

class CudaCheckpoint : public testing::Test {
 protected:
  void SetUp() override {
    if (CudaDevice::count() == 0) GTEST_SKIP() << "no GPU";
  }
  Tokens text(const RestartSettings& s) { return random_text(random_, directory_, s.architecture, 7 * s.options.tokens() + 1); }

  Random random_{5};
  TemporaryDirectory directory_;
};

TEST_F(CudaCheckpoint, ARunThatWasCutIsTheRunThatNeverWas) {
  for (const auto& [compute, storage] : {std::pair{DType::f32, DType::f32},
                                         {DType::bf16, DType::bf16},
                                         {DType::bf16, DType::f32},
                                         {DType::f16, DType::f16},
                                         {DType::f16, DType::f32}}) {
    SCOPED_TRACE(name_of(compute));
    const RestartSettings s = settings_of(compute, storage);
    const Tokens tokens = text(s);
    RunRecord whole, parts;
    run_part(s, plan_of(s), tokens, nullptr, s.steps, nullptr, 0, whole);
    CheckpointDirectory saved(directory_.path(name_of(compute) + std::string(name_of(storage))), 1, false);
    run_part(s, plan_of(s), tokens, nullptr, 9, &saved, 3, parts);
    const Checkpoint from(checkpoint_file(saved.path()));
    from.verify();
    run_part(s, plan_of(s, false), tokens, &from, s.steps, &saved, 5, parts);
    EXPECT_TRUE(parts == whole);
  }
}

TEST_F(CudaCheckpoint, FilesCrossBetweenDevices) {
  const RestartSettings gpu = settings_of(DType::f32, DType::f32);
  RestartSettings cpu = gpu;
  cpu.options.target = {.threads = 2};
  cpu.place = {};
  const Tokens tokens = text(gpu);
  for (const auto& [one, other] : {std::pair{gpu, cpu}, {cpu, gpu}}) {
    RunRecord record;
    CheckpointDirectory saved(directory_.path(one.place.gpu ? "gpu" : "cpu"), 1, false);
    run_part(one, plan_of(one), tokens, nullptr, 2, &saved, 2, record);
    const Checkpoint from(checkpoint_file(saved.path()));
    from.verify();
    Session session(plan_of(other), other.place, &from);
    restore(session, from);
    EXPECT_TRUE(persistent_bytes(session) == record.outcome.persistent);
  }
}

}  // namespace
}  // namespace neurogen
