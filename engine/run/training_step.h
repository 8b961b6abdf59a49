// One training step on the batch in the host arena.
#pragma once
#include <algorithm>
#include <cstdint>

#include "engine/graph/program.h"
#include "engine/model/model.h"
#include "neurogen/recipe.h"

namespace neurogen {

// Factor on all three rates at step s (from 0) of `steps`: linear warm-up, constant until half way, then linear decay to 5 %:
// min(1, (s+1)/warmup) (s < steps/2 ? 1 : max(0.05, 2 - 2 s/steps)).
double rate_factor(std::int64_t step, std::int64_t steps, std::int64_t warmup);

// The rates, with the model's own where one is not set.
Rates complete(Rates rates, const Model& model);

struct StepResult {
  double loss = 0;          // mean nats per token, with the parameters before this step
  double grad_norm = 0;     // before clipping, without the decoder
  double rate = 0;          // learning rate of the synapses
  double milliseconds = 0;  // device time
  // With f16 (kernels/loss_scale.h): the gradients' scale in this step, and a bit set of what overflowed and was not updated.
  double loss_scale = 1;
  int overflow = 0;
};

// Runs the programs of a step whose control is there: calls fill(k), which writes micro-batch k to ports.batch, before it is read.
// Returns the loss and the time. Allocates nothing.
template <typename Fill>
StepResult run_programs(const Model& model, Program& program, Fill&& fill) {
  StepResult result;
  const auto run = [&](Graph::Range range) {
    if (range.begin == range.end) return;
    program.run(range);
    result.milliseconds += program.milliseconds();
  };
  double losses = 0, counted = 0;
  run(model.programs.begin_step);
  for (std::int64_t k = 0; k < model.options.accumulate; ++k) {
    fill(k);
    run(model.programs.train);
    const double* loss = program.view(model.ports.loss).as<const double>();
    losses += loss[0], counted += loss[1];
  }
  run(model.programs.end_step);
  result.loss = losses / std::max(counted, 1.0);  // 0 if the step's texts have nothing to learn
  return result;
}

class TrainingStep {
 public:
  // Model and program must outlive it; `model` is from build_training. `done`: steps already done, if the run is resumed.
  TrainingStep(const Model& model, Program& program, const Rates& rates, std::int64_t done = 0)
      : model_(model), program_(program), rates_(complete(rates, model)), done_(done) {}

  std::int64_t done() const { return done_; }
  void go_on_from(std::int64_t done) { done_ = done; }
  // Runs one step, of a run of `steps` steps in total (INT64_MAX: unknown, the rates do not decline), on what fill(k) writes to
  // ports.batch for each micro-batch k. Allocates nothing. The results may be non-finite.
  template <typename Fill>
  StepResult run(std::int64_t steps, Fill&& fill) {
    set_control(steps);
    StepResult result = run_programs(model_, program_, fill);
    finish(result);
    return result;
  }

 private:
  void set_control(std::int64_t steps);
  void finish(StepResult& result);

  const Model& model_;
  Program& program_;
  Rates rates_;
  std::int64_t done_;
  double rate_ = 0;  // of the current step
};

// Throws Error if the loss or the gradient of the step just done is not finite.
void check_finite(const StepResult& result, std::int64_t step);
// Throws Error that names the rate if one is invalid.
void check_rates(const Rates& rates);

}  // namespace neurogen
