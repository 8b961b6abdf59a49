// Compares whole models with the reference models in PyTorch: features, loss, every gradient, and the changes of three steps.
// compact.py and lora.py in this folder make the golden files.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/files/safetensors.h"
#include "engine/model/initialize.h"
#include "engine/run/session.h"
#include "kernels/base/half.h"
#include "kernels/base/step_control.h"
#include "tests/engine/brains.h"
#include "tests/folders.h"

namespace neurogen {
namespace {

std::string golden(const std::string& name) { return source_folder() + "/tests/golden/" + name + ".safetensors"; }

ArchitecturePtr brain_of(const nlohmann::json& p) {
  nlohmann::json a = {{"name", "fixture"},
                      {"vocabulary", p["vocab"]},
                      {"embedding", p["embedding"]},
                      {"pairs", p["pairs"]},
                      {"softcap", p["softcap"]}};
  for (int m = 0; m < kModules; ++m) {
    const auto& n = p[name_of(static_cast<ModuleIndex>(m))];
    a[name_of(static_cast<ModuleIndex>(m))] = {{"neurons", n[0]}, {"outputs", n[1]}, {"fan_in", n[2]}};
  }
  return parse_architecture(a.dump(), "fixture");
}

ArchitecturePtr transformer_of(const nlohmann::json& p) {
  nlohmann::json a = {
      {"family", "transformer"}, {"vocabulary", p["vocab"]}, {"key_value_heads", p["kv_heads"]}, {"norm_eps", p["eps"]}};
  if (p["theta"] > 0) a["rotary_theta"] = p["theta"];
  for (const char* key : {"width", "layers", "heads", "hidden", "context", "norm", "positions", "activation", "qk_norm", "qkv_bias",
                          "bias", "tied", "embedding_norm", "softcap"})
    a[key] = p[key];
  return parse_architecture(a.dump(), "fixture");
}

// The reference's model, and the rates of its three steps.
struct Recipe {
  ArchitecturePtr architecture;
  Optimizer optimizer;
  StepControl rates;
};
Recipe recipe_of(const std::map<std::string, std::string>& metadata) {
  if (metadata.contains("preset"))
    return {brain_of(nlohmann::json::parse(metadata.at("preset"))), Optimizer::muon, {0, 4e-3f, 0.02f, 1e-3f, 0.01f}};
  const auto architecture = transformer_of(nlohmann::json::parse(metadata.at("architecture")));
  const float adam = std::stof(metadata.at("adam"));
  if (adam > 0) return {architecture, Optimizer::adamw, {0, adam, 0, 0, 0}};
  return {architecture, Optimizer::muon, {0, 4e-3f, 0.02f, 1e-3f, 0.02f}};
}

// What the reference's adapters beside frozen weights are like; none for most.
Lora lora_of(const std::map<std::string, std::string>& metadata, const Architecture& architecture) {
  if (!metadata.contains("rank")) return {};
  return {std::stoll(metadata.at("rank")), std::stod(metadata.at("alpha")), architecture.adaptable()};
}

// The values of a tensor on either device, in any floating type.
std::vector<double> values(const Program& program, TensorId id) {
  const TensorView view = program.view(id);
  std::vector<double> out(static_cast<std::size_t>(view.elements()));
  const auto fetch = [&](auto zero) {
    std::vector<decltype(zero)> stored(out.size());
    program.read(id, stored.data(), stored.size() * sizeof(zero));
    for (std::size_t i = 0; i < out.size(); ++i) {
      if constexpr (std::is_same_v<decltype(zero), double>) out[i] = stored[i];
      else out[i] = static_cast<double>(widen(stored[i]));
    }
  };
  switch (view.dtype) {
    case DType::f64:
      fetch(double{});
      break;
    case DType::bf16:
      fetch(Bf16{});
      break;
    case DType::f16:
      fetch(F16{});
      break;
    default:
      fetch(float{});
  }
  return out;
}

std::vector<double> values(const Safetensors& file, const std::string& name) {
  std::vector<double> out(static_cast<std::size_t>(file.at(name).elements()));
  file.read_as_double(name, out);
  return out;
}

void put(Program& program, TensorId to, const std::vector<double>& values) {
  if (program.view(to).dtype == DType::f64) return program.write(to, values.data(), values.size() * sizeof(double));
  const std::vector<float> narrow(values.begin(), values.end());
  program.write(to, narrow.data(), narrow.size() * sizeof(float));
}

double norm_of(const std::vector<double>& x) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  return std::sqrt(squares);
}

// Norm of the difference over the norm of the expected values.
double relative(const std::vector<double>& actual, const std::vector<double>& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  return std::sqrt(difference / norm);
}

struct Case {
  std::string fixture;
  DType compute;
  Schedule schedule;
  bool gpu = false;
  // Tolerances of the first loss and of every gradient. 16-bit products are compared no further: Adam turns a gradient's sign noise
  // into whole steps.
  double loss = 1e-5, gradient = 1e-5;
  bool narrow() const { return compute == DType::bf16 || compute == DType::f16; }
};
// Names such as "fixture4_f32_lean_gpu".
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.fixture << "_" << name_of(c.compute) << (c.schedule.keep_logits ? "_fast" : "_lean") << (c.gpu ? "_gpu" : "");
}

class Golden : public testing::TestWithParam<Case> {};

TEST_P(Golden, MatchesTheReference) {
  const Case& c = GetParam();
#ifdef NEUROGEN_CUDA
  if (c.gpu && CudaDevice::count() == 0) GTEST_SKIP() << "no GPU";
#endif
  const Safetensors start(golden(c.fixture + ".start")), gradients(golden(c.fixture + ".gradients")),
      changes(golden(c.fixture + ".changes"));
  const Recipe recipe = recipe_of(start.metadata());
  const std::int64_t tokens = start.at("ids").elements();
  StepOptions options;
  options.batch = 3;
  options.window = tokens / 3;
  options.vocabulary_tile = 100;
  options.optimizer = recipe.optimizer;
  options.target = {c.gpu, 2, c.gpu ? Bytes{32} << 20 : 0};
  options.compute = options.decoder_storage = c.compute;
  options.schedule = c.schedule;
  options.lora = lora_of(start.metadata(), *recipe.architecture);
  const Budget apart{Bytes{1} << 32, 0, Snapshot::none, false};  // no overlay, so that every gradient can be read afterwards
  Session session(planned(build_training(recipe.architecture, options), apart), {c.gpu, 0});
  const Model& b = session.model;
  const auto now = [&](TensorId id) { return values(session.program, id); };
  const bool adapted = options.lora.rank > 0;
  for (const Parameter& p : b.parameters)
    if (adapted && p.rule != UpdateRule::none) put(session.program, p.value, values(start, "param." + p.name));
  initialize_from(b, session.program, golden((adapted ? start.metadata().at("base") : c.fixture) + ".start"));
  std::vector<std::vector<double>> before;
  for (const Parameter& p : b.parameters) before.push_back(now(p.value));

  const TensorView batch = session.program.view(b.ports.batch);
  const auto count = static_cast<std::size_t>(tokens);
  start.read_as_int32("ids", {batch.as<std::int32_t>(), count});
  start.read_as_int32("targets", {batch.as<std::int32_t>() + tokens, count});
  const auto losses = nlohmann::json::parse(start.metadata().at("losses"));
  const auto norms = nlohmann::json::parse(start.metadata().at("grad_norms"));
  // Keys' biases move all scores of a query alike, so that without rotary positions their gradient is 0 but for rounding.
  const auto vanishes = [&](const std::string& name) { return norm_of(values(gradients, name)) < 1e-9 * norms[0].get<double>(); };
  for (int step = 0; step < 3; ++step) {
    StepControl& control = *session.program.view(b.ports.control).as<StepControl>() = recipe.rates;
    control.step = step;
    session.program.run(b.programs.train);
    const double* loss = session.program.view(b.ports.loss).as<const double>();
    EXPECT_EQ(loss[1], tokens);
    const double limit = step == 0 ? c.loss : std::max(1e-3, 3 * c.loss);
    EXPECT_NEAR(loss[0] / loss[1] / losses[step].get<double>(), 1, limit) << "step " << step;
    EXPECT_NEAR(now(b.ports.norm)[0] / norms[step].get<double>(), 1, std::max(limit, c.gradient)) << "step " << step;
    if (step > 0) continue;
    EXPECT_LT(relative(now(b.features), values(start, "features")), c.gradient);
    const StepControl outcome = b.ports.outcome ? step_control(session.program.view(b.ports.outcome)) : StepControl{};
    EXPECT_EQ(outcome.overflow, 0) << "of a gradient times " << outcome.loss_scale;
    for (std::size_t i = 0; i < b.parameters.size(); ++i) {
      const Parameter& p = b.parameters[i];
      if (p.rule == UpdateRule::none) continue;
      std::vector<double> gradient;
      if (p.rule == UpdateRule::adafactor) {
        for (TensorId tile : b.decoder_gradients) {
          const auto part = now(tile);
          gradient.insert(gradient.end(), part.begin(), part.end());
        }
      } else {
        gradient = now(p.gradient);
      }
      std::vector<double> expected = values(gradients, p.name);
      if (p.rule == UpdateRule::rowwise_rmsprop) {  // only the touched rows, in the order of their ids
        const auto width = static_cast<std::size_t>(p.shape[1]);
        std::vector<double> touched;
        for (std::size_t row = 0; row * width < expected.size(); ++row) {
          const auto first = expected.begin() + static_cast<std::ptrdiff_t>(row * width),
                     last = first + static_cast<std::ptrdiff_t>(width);
          if (std::any_of(first, last, [](double g) { return g != 0; })) touched.insert(touched.end(), first, last);
        }
        gradient.resize(touched.size());
        expected = touched;
      }
      for (double& g : gradient) g /= static_cast<double>(outcome.loss_scale);
      if (vanishes(p.name)) {
        EXPECT_LT(norm_of(gradient), (c.narrow() ? c.gradient : 1e-6) * norms[0].get<double>()) << "gradient of " << p.name;
        continue;
      }
      EXPECT_LT(relative(gradient, expected), c.gradient) << "gradient of " << p.name;
    }
  }
  for (std::size_t i = 0; i < b.parameters.size() && !c.narrow(); ++i) {
    const Parameter& p = b.parameters[i];
    if (p.rule == UpdateRule::none || vanishes(p.name)) continue;
    std::vector<double> change = now(p.value), expected = values(changes, p.name);
    const double scale = std::stod(changes.metadata().at(p.name));
    for (std::size_t k = 0; k < change.size(); ++k) change[k] -= before[i][k], expected[k] *= scale;
    EXPECT_LT(relative(change, expected), 1e-3) << "change of " << p.name;
  }
}

// All fixtures in both types; kept and recomputed logits, one and several sections, small and large tiles, no block and one
// computed twice.
const Schedule kFast{true, 1, 16'000'000}, kLean{false, 3, 0, 1};
INSTANTIATE_TEST_SUITE_P(Fixtures, Golden,
                         testing::Values(Case{"fixture4", DType::f64, kFast}, Case{"fixture5", DType::f64, kFast},
                                         Case{"fixture4", DType::f32, kFast}, Case{"fixture5", DType::f32, kFast},
                                         Case{"fixture4", DType::f32, kLean}, Case{"fixture5", DType::f32, kLean},
                                         Case{"modern", DType::f64, kFast}, Case{"gpt2", DType::f64, kFast},
                                         Case{"llama", DType::f64, kFast}, Case{"modern", DType::f32, kLean},
                                         Case{"gpt2", DType::f32, kLean}, Case{"llama", DType::f32, kLean},
                                         Case{"lora", DType::f64, kFast}, Case{"lora", DType::f32, kLean}),
                         testing::PrintToStringParamName());

#ifdef NEUROGEN_CUDA
INSTANTIATE_TEST_SUITE_P(
    Gpu, Golden,
    testing::Values(Case{"fixture4", DType::f32, kFast, true}, Case{"fixture5", DType::f32, kFast, true},
                    Case{"fixture4", DType::f32, kLean, true}, Case{"fixture5", DType::f32, kLean, true},
                    Case{"fixture4", DType::bf16, kFast, true, 1e-2, 2e-2}, Case{"fixture5", DType::bf16, kFast, true, 1e-2, 4e-2},
                    Case{"fixture4", DType::bf16, kLean, true, 1e-2, 2e-2}, Case{"fixture5", DType::bf16, kLean, true, 1e-2, 4e-2},
                    Case{"fixture4", DType::f16, kFast, true, 1e-2, 2e-2}, Case{"fixture5", DType::f16, kFast, true, 1e-2, 4e-2},
                    Case{"fixture4", DType::f16, kLean, true, 1e-2, 2e-2}, Case{"fixture5", DType::f16, kLean, true, 1e-2, 4e-2}),
    testing::PrintToStringParamName());
INSTANTIATE_TEST_SUITE_P(
    GpuTransformers, Golden,
    testing::Values(Case{"modern", DType::f32, kFast, true}, Case{"gpt2", DType::f32, kFast, true},
                    Case{"llama", DType::f32, kFast, true}, Case{"modern", DType::f32, kLean, true},
                    Case{"gpt2", DType::f32, kLean, true}, Case{"llama", DType::f32, kLean, true},
                    Case{"modern", DType::bf16, kFast, true, 1e-2, 4e-2}, Case{"gpt2", DType::bf16, kFast, true, 1e-2, 4e-2},
                    Case{"llama", DType::bf16, kFast, true, 1e-2, 4e-2}, Case{"modern", DType::bf16, kLean, true, 1e-2, 4e-2},
                    Case{"gpt2", DType::bf16, kLean, true, 1e-2, 4e-2}, Case{"llama", DType::bf16, kLean, true, 1e-2, 4e-2},
                    Case{"modern", DType::f16, kFast, true, 1e-2, 2e-2}, Case{"gpt2", DType::f16, kLean, true, 1e-2, 2e-2},
                    Case{"llama", DType::f16, kFast, true, 1e-2, 2e-2}, Case{"lora", DType::f32, kFast, true},
                    Case{"lora", DType::f32, kLean, true}),
    testing::PrintToStringParamName());
#endif

}  // namespace
}  // namespace neurogen
