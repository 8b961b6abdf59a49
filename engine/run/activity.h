// Statistics of the six modules on a text: mean and spread of their outputs, how many are dead or saturated, their time constants,
// and how open the basal ganglia hold the prefrontal module's gates.
#pragma once
#include <array>
#include <cstdint>
#include <vector>

#include "engine/brain/brain.h"
#include "engine/data/tokens.h"
#include "engine/run/readout.h"

namespace neurogen {

struct ModuleActivity {
  double mean = 0, spread = 0;  // over all outputs and tokens; the spread is the standard deviation
  double dead = 0;              // share of outputs whose root mean square is below a hundredth of the module's
  double saturated = 0;         // share of outputs that are not dead and whose standard deviation is below a twentieth of |mean|
  // Time constants at zero input, 1 / (1 - sigma(retain)) = 1 + exp(retain), in tokens: minimum, 10 %, 50 % and 90 % points,
  // maximum; zeros for the hippocampus, which has none.
  std::array<double, 5> time_constants{};
};

struct GateActivity {
  double mean = 0;            // mean of sigma(basal_ganglia + gate_bias)
  double open = 0, shut = 0;  // share above 0.9, below 0.1
};

struct Activity {
  std::int64_t tokens = 0;  // measured
  std::array<ModuleActivity, kModules> modules;
  GateActivity gates;
};

class ActivityMeter {
 public:
  // `brain` has a program "evaluate"; all must outlive the meter. It measures the first windows of the text: 512 tokens or one
  // window, at most one batch. The text holds at least two tokens.
  ActivityMeter(const Brain& brain, Program& program, const Tokens& text);

  // Runs the modules of "evaluate" one by one on host_batch. Allocates nothing.
  Activity measure();

 private:
  ModuleActivity outputs_of(ModuleIndex module, GateActivity& gates);
  std::array<double, 5> time_constants_of(ModuleIndex module);

  const Brain& brain_;
  Program& program_;
  const Tokens& text_;
  std::array<ModulePart, kModules> parts_;
  std::array<TensorId, kModules> retain_;
  TensorId gate_bias_id_;
  std::int64_t windows_ = 0, length_ = 0;  // windows measured, tokens in each
  Readout readout_;
  std::vector<double> sum_, squares_, gate_bias_, sorted_;  // [widest module]
};

}  // namespace neurogen
