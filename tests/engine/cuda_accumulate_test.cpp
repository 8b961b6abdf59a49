// Steps in several micro-batches on a GPU: the batch at once but for rounding, and the same bits again.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/model/initialize.h"
#include "engine/run/session.h"
#include "engine/run/training_step.h"
#include "kernels/base/step_control.h"
#include "tests/engine/small_brain.h"

namespace neurogen {
namespace {

constexpr std::int64_t kSequences = 6, kWindow = 48, kVocabulary = 200;

struct Case {
  const char* model;
  DType compute;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.model << "_" << name_of(c.compute); }

ArchitecturePtr architecture_of(const Case& c) {
  if (c.model == std::string("brain")) return brain(small_brain(kVocabulary));
  return parse_architecture(
      R"({"family": "transformer", "name": "small", "vocabulary": 200, "width": 128, "layers": 2, "heads": 2, "hidden": 256,
          "context": 64, "norm": "rms", "positions": "rotary", "activation": "relu2", "qk_norm": true, "qkv_bias": false,
          "bias": false, "tied": false, "embedding_norm": true})",
      "model");
}

// Losses and norms of four steps, whose first sequence counts half of its targets.
std::vector<double> train(const Case& c, std::int64_t accumulate) {
  StepOptions o;
  o.accumulate = accumulate, o.batch = kSequences / accumulate, o.window = kWindow;
  o.compute = o.decoder_storage = c.compute;
  o.vocabulary_tile = 72;
  o.target = {true, 1, Bytes{32} << 20};
  Session session(planned(build_training(architecture_of(c), o), {Bytes{1} << 34, 0}), {true, 0});
  const Model& model = session.model;
  Program& program = session.program;
  initialize(model, program, 5);
  std::vector<double> list;
  for (std::int64_t step = 0; step < 4; ++step) {
    *program.view(model.ports.control).as<StepControl>() = {step, 4e-3f, 3e-2f, 1e-3f, 0.01f};
    list.push_back(run_programs(model, program, [&](std::int64_t k) {
                     std::int32_t* const ids = program.view(model.ports.batch).as<std::int32_t>();
                     for (std::int64_t i = 0; i < o.tokens(); ++i) {
                       const std::int64_t at = k * o.tokens() + i;
                       ids[i] = static_cast<std::int32_t>(at * at % kVocabulary);
                       ids[o.tokens() + i] = at < kWindow / 2 ? -1 : static_cast<std::int32_t>((at + 1) * (at + 1) % kVocabulary);
                     }
                   }).loss);
    list.push_back(static_cast<double>(program.view(model.ports.norm).as<const float>()[0]));
  }
  return list;
}

class CudaAccumulate : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (CudaDevice::count() == 0) GTEST_SKIP() << "no GPU";
  }
};

TEST_P(CudaAccumulate, EqualsTheBatchAtOnceToRounding) {
  const std::vector<double> whole = train(GetParam(), 1);
  EXPECT_LT(whole[6], whole[0]);
  const double tolerance = GetParam().compute == DType::f32 ? 2e-3 : 5e-2;
  for (const std::int64_t accumulate : {2, 6}) {
    const std::vector<double> parts = train(GetParam(), accumulate);
    for (std::size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(parts[i] / whole[i], 1, tolerance) << accumulate << ", " << i;
    EXPECT_EQ(train(GetParam(), accumulate), parts);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, CudaAccumulate,
                         testing::Values(Case{"brain", DType::f32}, Case{"brain", DType::bf16}, Case{"transformer", DType::f32},
                                         Case{"transformer", DType::bf16}),
                         testing::PrintToStringParamName());

}  // namespace
}  // namespace neurogen
