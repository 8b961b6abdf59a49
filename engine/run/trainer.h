// Training: batches in, losses out. Everything is allocated by the time the constructor returns.
#pragma once
#include <cstdint>

#include "engine/brain/brain.h"
#include "engine/files/draws.h"
#include "engine/graph/program.h"
#include "engine/run/rates.h"
#include "kernels/step_control.h"

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

class Trainer {
 public:
  // All must outlive the trainer; `brain` from build_training. Windows are drawn as Draws has it. `step`: steps that were done
  // before, by a run that goes on; what comes next depends on seed and step alone. Throws Error as Draws.
  Trainer(const Brain& brain, Program& program, const Tokens& train, const Rates& rates, std::uint64_t seed, std::int64_t step = 0);

  std::int64_t step() const { return step_; }  // steps done
  std::int64_t steps_per_epoch() const { return draws_.steps_per_epoch(); }

  // One step of a run of `steps` steps in all. Allocates nothing.
  StepResult run_step(std::int64_t steps);

 private:
  const Brain& brain_;
  Program& program_;
  const Tokens& train_;
  Rates rates_;
  Draws draws_;
  std::int64_t step_;
  Graph::Range range_;
};

}  // namespace neurogen
