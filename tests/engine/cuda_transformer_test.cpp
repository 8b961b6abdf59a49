// Whole transformers on a GPU: features, losses, gradients and single tokens of a CPU, and equal bits under every schedule.
#include <gtest/gtest.h>

#include <cmath>

#include "engine/model/initialize.h"
#include "engine/run/readout.h"
#include "engine/run/session.h"
#include "engine/run/stream.h"
#include "engine/transformer/architecture.h"
#include "kernels/base/step_control.h"

namespace neurogen {
namespace {

constexpr Budget kApart{Bytes{1} << 34, 0, Snapshot::none, false};  // every gradient can be read afterwards
constexpr std::int64_t kVocabulary = 201;

// The modern kind, GPT-2's, and Llama's with grouped keys of 128; each with what the others lack.
constexpr const char* kModels[] = {
    R"({"family": "transformer", "name": "modern", "vocabulary": 201, "width": 128, "layers": 3, "heads": 2, "hidden": 256,
      "context": 128, "norm": "rms", "positions": "rotary", "activation": "relu2", "qk_norm": true, "qkv_bias": false, "bias": false,
      "tied": false, "embedding_norm": true, "softcap": 15})",
    R"({"family": "transformer", "name": "gpt2", "vocabulary": 201, "width": 192, "layers": 2, "heads": 3, "hidden": 256,
      "context": 128, "norm": "layer", "positions": "learned", "activation": "gelu_tanh", "qk_norm": false, "qkv_bias": true,
      "bias": true, "tied": true, "embedding_norm": false})",
    R"({"family": "transformer", "name": "llama", "vocabulary": 201, "width": 512, "layers": 2, "heads": 4, "key_value_heads": 2,
      "hidden": 320, "context": 128, "norm": "rms", "positions": "rotary", "activation": "silu_gated", "qk_norm": false,
      "qkv_bias": true, "bias": true, "tied": false, "embedding_norm": false})"};

struct Case {
  const char* model;
  DType compute;
  Optimizer optimizer;
  bool lean = false;  // in storage
  // Relative tolerances of features and gradients, which are norms of differences.
  double features() const { return compute == DType::f32 ? 1e-4 : compute == DType::f16 ? 5e-3 : 3e-2; }
  double gradients() const { return compute == DType::f32 ? 1e-3 : compute == DType::f16 ? 2e-2 : 8e-2; }
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << parse_transformer(c.model, "").name << "_" << name_of(c.compute)
       << (c.optimizer == Optimizer::muon ? "_muon"
           : c.lean                       ? "_lean"
                                          : "_adamw");
}

StepOptions options_of(const Case& c, bool gpu) {
  StepOptions o;
  o.batch = 3;
  o.window = 90;
  o.compute = o.decoder_storage = gpu ? c.compute : DType::f32;
  o.vocabulary_tile = 72;
  o.document_end = 7;
  o.optimizer = c.optimizer;
  o.narrow_weights = o.narrow_moments = o.early_updates = c.lean;
  if (gpu) o.target = {true, 1, Bytes{32} << 20}, o.logits_part = 1;  // five parts
  else o.target = {.threads = 2};
  return o;
}

using Values = std::vector<float>;

// Of two steps on one batch: features and gradients of the first, parameters after the second.
struct Outcome {
  std::vector<double> losses;
  Values features;
  std::vector<Values> gradients, parameters;
  bool operator==(const Outcome&) const = default;
};

Outcome train(const Case& c, const StepOptions& o) {
  const auto architecture = std::make_shared<TransformerArchitecture>(parse_transformer(c.model, "model"));
  Session session(planned(build_training(architecture, o), kApart), {o.target.gpu, 0});
  const Model& model = session.model;
  Program& program = session.program;
  initialize(model, program, 5);
  const TensorView batch = program.view(model.ports.batch);
  for (std::int64_t i = 0; i < batch.elements(); ++i) batch.as<std::int32_t>()[i] = static_cast<std::int32_t>(i * i % kVocabulary);
  Outcome outcome;
  Readout readout(program, 1 << 20);
  const auto values = [&](TensorId id) {
    const auto all = readout.all(id);
    return Values(all.begin(), all.end());
  };
  for (int step = 0; step < 2; ++step) {
    *program.view(model.ports.control).as<StepControl>() = {step, 1e-3f, 2e-2f, 1e-3f, 0.02f};
    program.run(model.programs.train);
    outcome.losses.push_back(program.view(model.ports.loss).as<const double>()[0]);
    if (step > 0) continue;
    outcome.features = values(model.features);
    const float scale = model.ports.outcome ? step_control(program.view(model.ports.outcome)).loss_scale : 1;
    for (const Parameter& p : model.parameters) {
      if (!p.gradient || p.touched.rows) continue;
      for (float& g : outcome.gradients.emplace_back(values(p.gradient))) g /= scale;
    }
  }
  for (const Parameter& p : model.parameters) outcome.parameters.push_back(values(p.value));
  return outcome;
}

double norm_of(const Values& x) {
  double squares = 0;
  for (const float value : x) squares += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(squares);
}
double relative(const Values& actual, const Values& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  Values difference = actual;
  for (std::size_t i = 0; i < expected.size(); ++i) difference[i] -= expected[i];
  return norm_of(difference) / norm_of(expected);
}

class CudaTransformer : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (CudaDevice::count() == 0) GTEST_SKIP() << "no GPU";
  }
};

TEST_P(CudaTransformer, LearnsWhatItLearnsOnTheCpu) {
  const Case& c = GetParam();
  const Outcome gpu = train(c, options_of(c, true)), cpu = train(c, options_of(c, false));
  for (std::size_t i = 0; i < 2; ++i) EXPECT_NEAR(gpu.losses[i] / cpu.losses[i], 1, c.features()) << i;
  EXPECT_LT(relative(gpu.features, cpu.features), c.features());
  double largest = 0;
  for (const Values& gradient : cpu.gradients) largest = std::max(largest, norm_of(gradient));
  ASSERT_EQ(gpu.gradients.size(), cpu.gradients.size());
  for (std::size_t i = 0; i < gpu.gradients.size(); ++i) {
    if (norm_of(cpu.gradients[i]) < 1e-5 * largest) continue;  // 0 but for rounding, as of keys' biases without rotary positions
    EXPECT_LT(relative(gpu.gradients[i], cpu.gradients[i]), c.gradients()) << "gradient " << i;
  }
}

TEST_P(CudaTransformer, RunsAndSchedulesGiveEqualBits) {
  const Case& c = GetParam();
  StepOptions o = options_of(c, true);
  const Outcome once = train(c, o);
  EXPECT_NE(once.losses[0], once.losses[1]) << "nothing changes from step to step";
  for (const std::int64_t twice : {0, 1, 2}) {
    o.schedule.computed_twice = twice;
    EXPECT_TRUE(train(c, o) == once) << twice << " blocks computed twice";
  }
}

// The logits of successive tokens, more than the ring holds and across the end of a document.
Values speak(const Case& c, const StepOptions& o) {
  const auto architecture = std::make_shared<TransformerArchitecture>(parse_transformer(c.model, "model"));
  Session session(planned(build_stream(architecture, o), kApart), {o.target.gpu, 0});
  initialize(session.model, session.program, 5);
  session.program.set_poison(true);
  Stream stream(session.model, session.program);
  Values logits;
  for (int t = 0; t < 130; ++t) {
    const TensorView row = stream.step(t == 20 ? 7 : 37 * t % 200 + 1);
    logits.insert(logits.end(), row.as<float>(), row.as<float>() + row.elements());
  }
  return logits;
}

TEST_P(CudaTransformer, AStreamSaysWhatItSaysOnTheCpu) {
  const Case& c = GetParam();
  EXPECT_LT(relative(speak(c, options_of(c, true)), speak(c, options_of(c, false))), c.features());
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* model : kModels)
    for (const DType compute : {DType::f32, DType::bf16, DType::f16})
      for (const Optimizer optimizer : TransformerArchitecture(parse_transformer(model, "")).optimizers())
        for (const bool lean : {false, true})
          if (!lean || optimizer == Optimizer::adamw) all.push_back({model, compute, optimizer, lean});
  return all;
}
INSTANTIATE_TEST_SUITE_P(Kinds, CudaTransformer, testing::ValuesIn(cases()), testing::PrintToStringParamName());

}  // namespace
}  // namespace neurogen
