// A checkpoint that the first version of the format wrote, kept: every later version must read it. It was made on a CPU by
// `train --batch 2 --seq 16 --seed 7 --steps 3 --keep-best` from 500 random tokens for the brain that its manifest describes.
#include <cmath>

#include "engine/brain/initialize.h"
#include "engine/run/fit.h"
#include "engine/run/restore.h"
#include "engine/run/trainer.h"
#include "tests/hostile/damage.h"

namespace neurogen {
namespace {

TEST(Version1, IsMapped) {
  const Checkpoint file(kVersion1);
  const Manifest& m = file.manifest();
  EXPECT_EQ(m.architecture.vocabulary, 64);
  EXPECT_EQ(m.standing.steps, 3);
  EXPECT_EQ(m.seed, 7u);
  file.verify(file.tensors().size());
  // Its layout is the one that today's plan has: nothing is copied.
  BrainOptions options = m.options;
  options.threads = 1;
  const auto brain = [&] { return build_training(m.architecture, options); };
  Session session(brain(), plan_graph(brain().graph, {Bytes{1} << 40, 0}), {}, &file);
  EXPECT_EQ(session.begins_with, &file);
  EXPECT_EQ(conversion(file, session.arena.plan()), Conversion::none);
  restore(session, file);
  for (const FileTensor& tensor : file.tensors()) {
    const auto& buffers = session.arena.plan().buffers;
    const auto id = std::find_if(buffers.begin(), buffers.end(), [&](const Buffer& b) { return b.name == tensor.name; });
    ASSERT_NE(id, buffers.end()) << tensor.name;
    const std::byte* data = session.arena.data(ArenaKind::device) + id->offset;
    EXPECT_EQ(std::memcmp(data, tensor.data.data(), tensor.data.size()), 0) << tensor.name;
  }
}

TEST(Version1, TrainsOn) {
  const Checkpoint file(kVersion1);
  const TemporaryDirectory directory;
  std::string ids;
  for (int i = 0; i < 500; ++i) ids += {static_cast<char>(i * i % 64), 0};
  const Tokens text({directory.file("text.bin", ids)}, nullptr);
  BrainOptions options = file.manifest().options;
  options.threads = 1;
  const auto brain = [&] { return build_training(file.manifest().architecture, options); };
  Session session(brain(), plan_graph(brain().graph, {Bytes{1} << 40, 0}), {}, &file);
  restore(session, file);
  Trainer trainer(session.brain, session.program, text, file.manifest().rates, file.manifest().seed, 3);
  for (int step = 4; step < 8; ++step) {
    const double loss = trainer.run_step(8).loss;
    EXPECT_TRUE(std::isfinite(loss) && loss < 6) << loss;
    EXPECT_EQ(trainer.step(), step);
  }
}

}  // namespace
}  // namespace neurogen
