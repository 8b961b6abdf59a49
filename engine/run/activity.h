// Statistics of a model's probes (its modules) on a text: mean and spread of their outputs, how many are dead or saturated, and, if
// the family has them, their time constants and how open one holds another's gates.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/data/tokens.h"
#include "engine/model/model.h"
#include "engine/run/readout.h"

namespace neurogen {

struct ModuleActivity {
  std::string_view name;
  double mean = 0, spread = 0;  // over all outputs and tokens; the spread is the standard deviation
  double dead = 0;              // share of outputs whose root mean square is below a hundredth of the module's
  double saturated = 0;         // share of outputs that are not dead and whose standard deviation is below a twentieth of |mean|
  // Time constants at zero input, 1 / (1 - sigma(retain)) = 1 + exp(retain), in tokens: minimum, 10 %, 50 % and 90 % points,
  // maximum; zeros for a module without recurrence.
  std::array<double, 5> time_constants{};
};

struct GateActivity {
  double mean = 0;            // mean of sigma(output + gate_bias)
  double open = 0, shut = 0;  // share above 0.9, below 0.1
};

struct Activity {
  std::int64_t tokens = 0;  // measured
  std::vector<ModuleActivity> modules;
  bool gated = false;  // whether a module holds gates
  GateActivity gates;
};

class ActivityMeter {
 public:
  // `model` has a program evaluate; all must outlive the meter. It measures the first windows of the text: 512 tokens or one
  // window, at most one batch. The text holds at least two tokens.
  ActivityMeter(const Model& model, Program& program, const Tokens& text);

  // Runs "evaluate" on the batch port, module by module. Allocates nothing; valid until the next call.
  const Activity& measure();

 private:
  void measure_outputs(const Probe& probe, ModuleActivity& activity);
  std::array<double, 5> time_constants_of(TensorId retain);

  const Model& model_;
  Program& program_;
  const Tokens& text_;
  Activity activity_;
  std::int64_t windows_ = 0, length_ = 0;  // windows measured, tokens in each
  Readout readout_;
  std::vector<double> sum_, squares_, gate_bias_, sorted_;  // [widest module]
};

}  // namespace neurogen
