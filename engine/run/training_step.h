// One training step on the batch in the host arena.
#pragma once
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
  double loss = 0;       // mean nats per token, with the parameters before this step
  double grad_norm = 0;  // before clipping, without the decoder
  double rate = 0;       // learning rate of the synapses
  // With f16 (kernels/loss_scale.h): the gradients' scale in this step, and a bit set of what overflowed and was not updated.
  double loss_scale = 1;
  int overflow = 0;
};

class TrainingStep {
 public:
  // Model and program must outlive it; `model` is from build_training. `done`: steps already done, if the run is resumed.
  TrainingStep(const Model& model, Program& program, const Rates& rates, std::int64_t done = 0)
      : model_(model), program_(program), rates_(complete(rates, model)), done_(done), range_(model.programs.train) {}

  std::int64_t done() const { return done_; }
  void go_on_from(std::int64_t done) { done_ = done; }
  // Runs one step on host_batch, of a run of `steps` steps in total (INT64_MAX: unknown, the rates do not decline). Allocates
  // nothing. The results may be non-finite.
  StepResult run(std::int64_t steps);

 private:
  const Model& model_;
  Program& program_;
  Rates rates_;
  std::int64_t done_;
  Graph::Range range_;
};

// Throws Error if the loss or the gradient of the step just done is not finite.
void check_finite(const StepResult& result, std::int64_t step);
// Throws Error that names the rate if one is invalid.
void check_rates(const Rates& rates);

}  // namespace neurogen
