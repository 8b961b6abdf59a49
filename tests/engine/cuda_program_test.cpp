// A whole training step on a GPU: the same bits every time, wherever the buffers are; one wait per step, and no allocation.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "engine/model/initialize.h"
#include "engine/run/session.h"
#include "engine/run/stream.h"
#include "kernels/base/step_control.h"
#include "tests/engine/small_brain.h"

namespace neurogen {
namespace {

constexpr int kSteps = 4;
constexpr Budget kPlenty{Bytes{1} << 34, 0}, kApart{Bytes{1} << 34, 0, Snapshot::none, false};

StepOptions options_of(DType compute) {
  StepOptions o;
  o.batch = 4;
  o.window = 40;
  o.compute = o.decoder_storage = compute;
  o.vocabulary_tile = 72;
  o.document_end = 7;
  o.target.gpu = true;
  o.target.workspace = Bytes{32} << 20;
  return o;
}

struct Outcome {
  std::vector<double> metrics;
  std::vector<std::vector<std::byte>> parameters;
  bool operator==(const Outcome&) const = default;
};

struct Way {
  Budget budget = kPlenty;
  bool poison = false, separate = false, timed = false;
};

Session session_of(Model model, const Way& way = {}) {
  const bool gpu = model.options.target.gpu;
  return {planned(std::move(model), way.budget), {gpu, 0, way.separate}};
}

Outcome train(const StepOptions& o, const Way& way = {}, std::int64_t vocabulary = 200) {
  Session session = session_of(build_training(small_brain(vocabulary), o), way);
  const Model& model = session.model;
  Program& program = session.program;
  initialize(model, program, 5);
  program.set_poison(way.poison);
  const Graph::Range range = model.programs.train;
  std::vector<double> times(range.end - range.begin);
  if (way.timed) program.prepare_times(range);
  std::mt19937 random(9);
  Outcome outcome;
  for (int step = 0; step < kSteps; ++step) {
    const TensorView batch = program.view(model.ports.batch);
    for (std::int64_t i = 0; i < batch.elements(); ++i) batch.as<std::int32_t>()[i] = static_cast<std::int32_t>(random() % 200);
    *program.view(model.ports.control).as<StepControl>() = {step, 4e-3f, 3e-2f, 1e-3f, 0.01f};
    const std::int64_t waits = program.synchronizations(), requests = Block::gpu_requests();
    std::fill(times.begin(), times.end(), -1.0);
    if (way.timed) program.time_next_run(times);
    program.run(range);
    for (const double time : times) EXPECT_TRUE(way.timed ? time >= 0 && time <= program.milliseconds() : time == -1);
    if (session.gpu && way.poison) {
      session.gpu->synchronize();
    } else if (session.gpu) {
      EXPECT_EQ(program.synchronizations() - waits, 1);
    }
    EXPECT_EQ(Block::gpu_requests(), requests);
    const double* loss = program.view(model.ports.loss).as<const double>();
    EXPECT_TRUE(std::isfinite(loss[0]));
    outcome.metrics.insert(outcome.metrics.end(), {loss[0], loss[1]});
  }
  for (const Parameter& p : model.parameters) {
    const TensorView view = program.view(p.value);
    program.read(p.value, outcome.parameters.emplace_back(size_of(view.dtype, p.shape)).data(), size_of(view.dtype, p.shape));
  }
  return outcome;
}

class CudaProgram : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (CudaDevice::count() == 0) GTEST_SKIP() << "no GPU";
  }
};

TEST_P(CudaProgram, TwoRunsGiveEqualBits) {
  const Outcome once = train(options_of(GetParam()));
  EXPECT_EQ(once, train(options_of(GetParam())));
  EXPECT_NE(once.metrics[0], once.metrics[2]) << "nothing changes from step to step";
}

TEST_P(CudaProgram, SharingMemoryAndPoisonChangeNothing) {
  const Outcome overlaid = train(options_of(GetParam()));
  EXPECT_EQ(overlaid, train(options_of(GetParam()), {.budget = kApart})) << "without sharing";
  EXPECT_EQ(overlaid, train(options_of(GetParam()), {.poison = true})) << "poisoned, operation by operation";
  for (const bool poison : {false, true})
    EXPECT_EQ(overlaid, train(options_of(GetParam()), {.budget = kApart, .poison = poison, .separate = true}))
        << "in separate blocks";
}

TEST_P(CudaProgram, LookingAtTheTimesChangesNothing) {
  EXPECT_EQ(train(options_of(GetParam())), train(options_of(GetParam()), {.timed = true}));
}

// Rows of logits and their tiles begin at addresses aligned for vector loads, for every vocabulary and tile.
TEST_P(CudaProgram, AnyVocabularyAndTileLearnWhatTheyLearnOnTheCpu) {
  for (const std::int64_t vocabulary : {201, 203, 257})
    for (const std::int64_t tile : {31, 66, 1280})
      for (const bool keep : {true, false}) {
        StepOptions o = options_of(GetParam());
        o.vocabulary_tile = tile;
        o.schedule.keep_logits = keep;
        StepOptions on_cpu = o;
        on_cpu.compute = on_cpu.decoder_storage = DType::f32;
        on_cpu.target = {.threads = 2};
        const Outcome gpu = train(o, {}, vocabulary), cpu = train(on_cpu, {}, vocabulary);
        for (std::size_t i = 0; i < gpu.metrics.size(); ++i)
          EXPECT_NEAR(gpu.metrics[i], cpu.metrics[i], (GetParam() == DType::f32 ? 1e-4 : 1e-2) * cpu.metrics[i])
              << vocabulary << " in tiles of " << tile << (keep ? "" : ", logits computed twice");
      }
}

// The logits of successive tokens, more than the ring holds and across the ends of documents.
std::vector<float> speak(const StepOptions& o, bool poison = false) {
  Session session = session_of(build_stream(small_brain(), o));
  initialize(session.model, session.program, 5);
  session.program.set_poison(poison);
  Stream stream(session.model, session.program);
  std::vector<float> logits;
  for (int t = 0; t < 60; ++t) {
    const TensorView row = stream.step(t % 50 == 30 ? 7 : 37 * t % 200);
    logits.insert(logits.end(), row.as<float>(), row.as<float>() + row.elements());
  }
  return logits;
}

TEST_P(CudaProgram, AStreamSaysWhatItSaysOnTheCpu) {
  const std::vector<float> logits = speak(options_of(GetParam()));
  EXPECT_EQ(logits, speak(options_of(GetParam()), true)) << "poisoned, operation by operation";
  StepOptions on_cpu = options_of(DType::f32);
  on_cpu.target = {.threads = 2};
  const std::vector<float> expected = speak(on_cpu);
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    difference += std::pow(static_cast<double>(logits[i] - expected[i]), 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  EXPECT_LT(std::sqrt(difference / norm), GetParam() == DType::f32 ? 1e-5 : GetParam() == DType::bf16 ? 3e-2 : 4e-3);
}

INSTANTIATE_TEST_SUITE_P(Types, CudaProgram, testing::Values(DType::f32, DType::bf16, DType::f16));

}  // namespace
}  // namespace neurogen
