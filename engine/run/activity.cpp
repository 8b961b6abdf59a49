#include "engine/run/activity.h"

#include <algorithm>
#include <cmath>

#include "engine/run/batch.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 512;
constexpr double kDead = 0.01, kSaturated = 0.05, kOpen = 0.9, kShut = 0.1;
constexpr double kLongest = 1e9;  // tokens; longer time constants are clamped

std::int64_t widest(const Architecture& architecture) {
  std::int64_t width = 0;
  for (const Module& module : architecture.modules) width = std::max(width, module.outputs);
  return width;
}

}  // namespace

ActivityMeter::ActivityMeter(const Brain& brain, Program& program, const Tokens& text)
    : brain_(brain),
      program_(program),
      text_(text),
      parts_(module_parts(brain.graph)),
      gate_bias_id_(brain.parameter("prefrontal.gate_bias").value),
      readout_(program, widest(brain.architecture)) {
  for (int m = 0; m < kModules; ++m) {
    if (m != kHippocampus) retain_[m] = brain.parameter(std::string(name_of(static_cast<ModuleIndex>(m))) + ".retain").value;
  }
  const std::int64_t window = brain.options.window, last = text.size() - 1;
  windows_ = std::max<std::int64_t>(1, std::min({kTokens / window, brain.options.batch, last / window}));
  length_ = std::min(window, last);
  const auto width = static_cast<std::size_t>(widest(brain.architecture));
  for (auto* values : {&sum_, &squares_, &gate_bias_, &sorted_}) values->resize(width);
}

Activity ActivityMeter::measure() {
  for (std::int64_t i = 0; i < brain_.options.batch; ++i) {
    fill_sequence(brain_, program_, text_, i, i < windows_ ? i * brain_.options.window : 0, i < windows_ ? length_ : 0);
  }
  Activity activity;
  activity.tokens = windows_ * length_;
  const std::span<const float> bias = readout_.all(gate_bias_id_);
  std::copy(bias.begin(), bias.end(), gate_bias_.begin());
  for (int m = 0; m < kModules; ++m) {
    program_.run(parts_[m].range);
    activity.modules[m] = outputs_of(static_cast<ModuleIndex>(m), activity.gates);
    if (retain_[m]) activity.modules[m].time_constants = time_constants_of(static_cast<ModuleIndex>(m));
  }
  return activity;
}

ModuleActivity ActivityMeter::outputs_of(ModuleIndex module, GateActivity& gates) {
  const auto width = static_cast<std::size_t>(brain_.architecture.modules[module].outputs);
  const std::int64_t rows = windows_ * length_;
  const double n = static_cast<double>(rows), values = n * static_cast<double>(width);
  std::fill(sum_.begin(), sum_.end(), 0.0);
  std::fill(squares_.begin(), squares_.end(), 0.0);
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::span<const float> x = readout_.rows(parts_[module].output, row, 1);
    for (std::size_t j = 0; j < width; ++j) {
      const double value = x[j];
      sum_[j] += value;
      squares_[j] += value * value;
      if (module != kBasalGanglia) continue;
      const double gate = 1 / (1 + std::exp(-value - gate_bias_[j]));
      gates.mean += gate / values;
      gates.open += (gate > kOpen) / values;
      gates.shut += (gate < kShut) / values;
    }
  }
  double sum = 0, squares = 0;
  for (std::size_t j = 0; j < width; ++j) sum += sum_[j], squares += squares_[j];
  ModuleActivity activity;
  activity.mean = sum / values;
  activity.spread = std::sqrt(std::max(0.0, squares / values - activity.mean * activity.mean));
  for (std::size_t j = 0; j < width; ++j) {
    const double mean = sum_[j] / n, variance = std::max(0.0, squares_[j] / n - mean * mean);
    const bool dead = squares_[j] / n < kDead * kDead * squares / values;
    activity.dead += dead / static_cast<double>(width);
    activity.saturated += (!dead && variance < kSaturated * kSaturated * mean * mean) / static_cast<double>(width);
  }
  return activity;
}

std::array<double, 5> ActivityMeter::time_constants_of(ModuleIndex module) {
  const std::span<const float> retain = readout_.all(retain_[module]);
  for (std::size_t j = 0; j < retain.size(); ++j) sorted_[j] = std::min(kLongest, 1 + std::exp(static_cast<double>(retain[j])));
  std::sort(sorted_.begin(), sorted_.begin() + static_cast<std::ptrdiff_t>(retain.size()));
  const auto at = [&](double share) {
    return sorted_[static_cast<std::size_t>(std::lround(share * static_cast<double>(retain.size() - 1)))];
  };
  return {at(0), at(0.1), at(0.5), at(0.9), at(1)};
}

}  // namespace neurogen
