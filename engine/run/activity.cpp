#include "engine/run/activity.h"

#include <algorithm>
#include <cmath>

#include "engine/run/batch.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 512;
constexpr double kDead = 0.01, kSaturated = 0.05, kOpen = 0.9, kShut = 0.1;
constexpr double kLongest = 1e9;  // tokens; longer time constants are clamped

std::int64_t widest(const Model& model) {
  std::int64_t width = 0;
  for (const Probe& probe : model.probes) width = std::max(width, model.graph.tensors()[probe.output.index].shape[1]);
  return width;
}

}  // namespace

ActivityMeter::ActivityMeter(const Model& model, Program& program, const Tokens& text)
    : model_(model), program_(program), text_(text), readout_(program, widest(model)) {
  std::size_t begin = model.programs.evaluate.begin;
  for (const Probe& probe : model.probes) {
    activity_.modules.push_back({probe.name, 0, 0, 0, 0, {}});
    program.prepare({begin, probe.end});
    begin = probe.end;
  }
  const std::int64_t window = model.options.window, last = text.size() - 1;
  windows_ = std::max<std::int64_t>(1, std::min({kTokens / window, model.options.batch, last / window}));
  length_ = std::min(window, last);
  const auto width = static_cast<std::size_t>(widest(model));
  for (auto* values : {&sum_, &squares_, &gate_bias_, &sorted_}) values->resize(width);
}

const Activity& ActivityMeter::measure() {
  for (std::int64_t i = 0; i < model_.options.batch; ++i) {
    fill_sequence(model_, program_, text_, i, i < windows_ ? i * model_.options.window : 0, i < windows_ ? length_ : 0);
  }
  activity_.tokens = windows_ * length_;
  activity_.gates = {};
  std::size_t begin = model_.programs.evaluate.begin;
  for (std::size_t p = 0; p < model_.probes.size(); ++p) {
    const Probe& probe = model_.probes[p];
    program_.run({begin, probe.end});
    begin = probe.end;
    measure_outputs(probe, activity_.modules[p]);
    if (probe.retain) activity_.modules[p].time_constants = time_constants_of(probe.retain);
  }
  return activity_;
}

void ActivityMeter::measure_outputs(const Probe& probe, ModuleActivity& activity) {
  const auto width = static_cast<std::size_t>(program_.view(probe.output)[1]);
  const std::int64_t rows = windows_ * length_;
  const double n = static_cast<double>(rows), values = n * static_cast<double>(width);
  std::fill(sum_.begin(), sum_.end(), 0.0);
  std::fill(squares_.begin(), squares_.end(), 0.0);
  if (probe.gate_bias) {
    activity_.gated = true;
    const std::span<const float> bias = readout_.all(probe.gate_bias);
    std::copy(bias.begin(), bias.end(), gate_bias_.begin());
  }
  GateActivity& gates = activity_.gates;
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::span<const float> x = readout_.rows(probe.output, row, 1);
    for (std::size_t j = 0; j < width; ++j) {
      const double value = x[j];
      sum_[j] += value;
      squares_[j] += value * value;
      if (!probe.gate_bias) continue;
      const double gate = 1 / (1 + std::exp(-value - gate_bias_[j]));
      gates.mean += gate / values;
      gates.open += (gate > kOpen) / values;
      gates.shut += (gate < kShut) / values;
    }
  }
  double sum = 0, squares = 0;
  for (std::size_t j = 0; j < width; ++j) sum += sum_[j], squares += squares_[j];
  activity.mean = sum / values;
  activity.spread = std::sqrt(std::max(0.0, squares / values - activity.mean * activity.mean));
  activity.dead = activity.saturated = 0;
  for (std::size_t j = 0; j < width; ++j) {
    const double mean = sum_[j] / n, variance = std::max(0.0, squares_[j] / n - mean * mean);
    const bool dead = squares_[j] / n < kDead * kDead * squares / values;
    activity.dead += dead / static_cast<double>(width);
    activity.saturated += (!dead && variance < kSaturated * kSaturated * mean * mean) / static_cast<double>(width);
  }
}

std::array<double, 5> ActivityMeter::time_constants_of(TensorId id) {
  const std::span<const float> retain = readout_.all(id);
  for (std::size_t j = 0; j < retain.size(); ++j) sorted_[j] = std::min(kLongest, 1 + std::exp(static_cast<double>(retain[j])));
  std::sort(sorted_.begin(), sorted_.begin() + static_cast<std::ptrdiff_t>(retain.size()));
  const auto at = [&](double share) {
    return sorted_[static_cast<std::size_t>(std::lround(share * static_cast<double>(retain.size() - 1)))];
  };
  return {at(0), at(0.1), at(0.5), at(0.9), at(1)};
}

}  // namespace neurogen
