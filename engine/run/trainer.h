// Training on a text: batches in, losses out. Everything is allocated by the time the constructor returns.
#pragma once
#include <cstdint>

#include "engine/files/tokens.h"
#include "engine/run/training_step.h"

namespace neurogen {

// Whole batches in a pass over a text. Throws Error if there is none.
std::int64_t steps_per_epoch(const Tokens& text, const BrainOptions& options);

class Trainer {
 public:
  // All must outlive the trainer; `brain` from build_training. Windows start at multiples of T, are drawn in a shuffled order,
  // each once an epoch; the last (windows mod B) of an epoch are left out. `step`: steps that were done before, by a run that
  // goes on; what comes next depends on seed and step alone. Throws Error as steps_per_epoch.
  Trainer(const Brain& brain, Program& program, const Tokens& train, const Rates& rates, std::uint64_t seed, std::int64_t step = 0);

  std::int64_t step() const { return step_.done(); }  // steps done
  std::int64_t steps_per_epoch() const { return batches_; }

  // One step of a run of `steps` steps in all. Allocates nothing.
  StepResult run_step(std::int64_t steps);

 private:
  const Brain& brain_;
  Program& program_;
  const Tokens& train_;
  std::uint64_t seed_;
  std::int64_t windows_, batches_;
  TrainingStep step_;
};

}  // namespace neurogen
