// The whole brain against the reference model in PyTorch: features, loss, every gradient, and three steps' changes.
// The golden files are made by compact.py in this folder.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/brain/initialize.h"
#include "engine/files/safetensors.h"
#include "engine/run/session.h"
#include "kernels/dispatch.h"
#include "kernels/step_control.h"

namespace neurogen {
namespace {

std::string golden(const std::string& name) { return std::string(NEUROGEN_TESTS) + "/golden/" + name + ".safetensors"; }

Architecture fixture_architecture(const std::string& preset) {
  const auto p = nlohmann::json::parse(preset);
  nlohmann::json a = {{"name", "fixture"}, {"vocabulary", p["vocab"]}, {"embedding", p["embedding"]}};
  for (int m = 0; m < kModules; ++m) {
    const auto& n = p[name_of(static_cast<ModuleIndex>(m))];
    a[name_of(static_cast<ModuleIndex>(m))] = {{"neurons", n[0]}, {"outputs", n[1]}, {"fan_in", n[2]}};
  }
  return parse_architecture(a.dump(), "fixture");
}

std::vector<double> values(const TensorView& view) {
  std::vector<double> out(static_cast<std::size_t>(view.elements()));
  dispatch_real(view.dtype, [&](auto zero) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<double>(view.as<const decltype(zero)>()[i]);
  });
  return out;
}

std::vector<double> values(const Safetensors& file, const std::string& name) {
  std::vector<double> out(static_cast<std::size_t>(file.at(name).elements()));
  file.read_as_double(name, out);
  return out;
}

// Norm of the difference over the norm of what is expected.
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
};

class Golden : public testing::TestWithParam<Case> {};

TEST_P(Golden, MatchesTheReference) {
  const Case& c = GetParam();
  const Safetensors start(golden(c.fixture + ".start")), gradients(golden(c.fixture + ".gradients")),
      changes(golden(c.fixture + ".changes"));
  BrainOptions options;
  options.batch = 3;
  options.window = 48;
  options.vocabulary_tile = 100;
  options.threads = 2;
  options.compute = options.decoder_storage = c.compute;
  options.schedule = c.schedule;
  Brain brain = build_training(fixture_architecture(start.metadata().at("preset")), options);
  Plan plan = plan_graph(brain.graph, {Bytes{1} << 32, 0}, false);  // no overlay: every gradient can be looked at afterwards
  Session session(std::move(brain), std::move(plan));
  const Brain& b = session.brain;
  initialize_from(b, session.program, golden(c.fixture + ".start"));
  std::vector<std::vector<double>> before;
  for (const Parameter& p : b.parameters) before.push_back(values(session.program.view(p.value)));

  const TensorView batch = session.program.view(b.host_batch);
  start.read_as_int32("ids", {batch.as<std::int32_t>(), 144});
  start.read_as_int32("targets", {batch.as<std::int32_t>() + 144, 144});
  const auto losses = nlohmann::json::parse(start.metadata().at("losses"));
  const auto norms = nlohmann::json::parse(start.metadata().at("grad_norms"));
  for (int step = 0; step < 3; ++step) {
    *session.program.view(b.host_control).as<StepControl>() = {step, 4e-3f, 4e-3f, 1e-3f, 0};
    session.program.run(b.graph.program("train"));
    const double* loss = session.program.view(b.host_loss).as<const double>();
    EXPECT_EQ(loss[1], 144);
    const double limit = step == 0 ? 1e-5 : 1e-3;
    EXPECT_NEAR(loss[0] / loss[1] / losses[step].get<double>(), 1, limit) << "step " << step;
    EXPECT_NEAR(values(session.program.view(b.host_norm))[0] / norms[step].get<double>(), 1, limit) << "step " << step;
    if (step > 0) continue;
    EXPECT_LT(relative(values(session.program.view(b.features)), values(start, "features")), 1e-5);
    for (std::size_t i = 0; i < b.parameters.size(); ++i) {
      const Parameter& p = b.parameters[i];
      std::vector<double> gradient;
      if (p.rule == UpdateRule::adafactor) {
        for (TensorId tile : b.decoder_gradients) {
          const auto part = values(session.program.view(tile));
          gradient.insert(gradient.end(), part.begin(), part.end());
        }
      } else {
        gradient = values(session.program.view(b.gradients[i]));
      }
      std::vector<double> expected = values(gradients, p.name);
      if (p.rule == UpdateRule::adamw_rows) {  // the touched rows alone, in the order of their ids
        const auto width = static_cast<std::size_t>(p.shape[1]);
        std::vector<double> touched;
        for (std::size_t row = 0; row * width < expected.size(); ++row) {
          const auto first = expected.begin() + static_cast<std::ptrdiff_t>(row * width), last = first + static_cast<std::ptrdiff_t>(width);
          if (std::any_of(first, last, [](double g) { return g != 0; })) touched.insert(touched.end(), first, last);
        }
        gradient.resize(touched.size());
        expected = touched;
      }
      EXPECT_LT(relative(gradient, expected), 1e-5) << "gradient of " << p.name;
    }
  }
  for (std::size_t i = 0; i < b.parameters.size(); ++i) {
    const Parameter& p = b.parameters[i];
    std::vector<double> change = values(session.program.view(p.value)), expected = values(changes, p.name);
    const double scale = std::stod(changes.metadata().at(p.name));
    for (std::size_t k = 0; k < change.size(); ++k) change[k] -= before[i][k], expected[k] *= scale;
    EXPECT_LT(relative(change, expected), 1e-3) << "change of " << p.name;
  }
}

// Both fixtures in both types; kept and recomputed logits, one and several sections, small and large tiles.
const Schedule kFast{true, 1, 16'000'000}, kLean{false, 3, 0};
INSTANTIATE_TEST_SUITE_P(Fixtures, Golden,
                         testing::Values(Case{"fixture4", DType::f64, kFast}, Case{"fixture5", DType::f64, kFast},
                                         Case{"fixture4", DType::f32, kFast}, Case{"fixture5", DType::f32, kFast},
                                         Case{"fixture4", DType::f32, kLean}, Case{"fixture5", DType::f32, kLean}));

}  // namespace
}  // namespace neurogen
