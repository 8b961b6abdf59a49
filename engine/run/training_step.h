// One step of training on the batch that lies in the host arena, wherever it came from.
#pragma once
#include <cstdint>

#include "engine/api/neurogen/recipe.h"
#include "engine/brain/brain.h"
#include "engine/graph/program.h"

namespace neurogen {

// The factor on all three rates at step s (from 0) of `steps`: a straight line up over the warm-up, flat to half way, then
// a straight line down to 5 %: min(1, (s+1)/warmup) (s < steps/2 ? 1 : max(0.05, 2 - 2 s/steps)).
double rate_factor(std::int64_t step, std::int64_t steps, std::int64_t warmup);

struct StepResult {
  double loss = 0;       // mean nats per token, of the parameters before this step
  double grad_norm = 0;  // before clipping, of all but the decoder
  double rate = 0;       // learning rate of the synapses
  // Of f16 (kernels/loss_scale.h): the gradients' scale in this step, and what overflowed under it and was not updated, in bits.
  double loss_scale = 1;
  int overflow = 0;
};

class TrainingStep {
 public:
  // Brain and program must outlive it; `brain` from build_training. `done`: steps that were done before, by a run that goes on.
  TrainingStep(const Brain& brain, Program& program, const Rates& rates, std::int64_t done = 0)
      : brain_(brain), program_(program), rates_(rates), done_(done), range_(brain.graph.program("train")) {}

  std::int64_t done() const { return done_; }
  void go_on_from(std::int64_t done) { done_ = done; }
  // One step of a run of `steps` steps in all (INT64_MAX: not known, the rates stay at their height), on host_batch. Allocates
  // nothing. The results may be not finite.
  StepResult run(std::int64_t steps);

 private:
  const Brain& brain_;
  Program& program_;
  Rates rates_;
  std::int64_t done_;
  Graph::Range range_;
};

// Throws Error for a loss or a gradient that is not finite, of a step that has just been done.
void check_finite(const StepResult& result, std::int64_t step);
// Throws Error that names the rate for one that is none.
void check_rates(const Rates& rates);

}  // namespace neurogen
