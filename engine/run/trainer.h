// Trains on a text. The constructor allocates everything.
#pragma once
#include <cstdint>

#include "engine/data/draws.h"
#include "engine/run/training_step.h"

namespace neurogen {

class Trainer {
 public:
  // All must outlive the trainer; `model` is from build_training. Windows are drawn by Draws. `step`: steps already done, if the
  // run is resumed; the following windows depend only on seed and step. `rank`: this process among StepOptions::ranks. Throws Error
  // as Draws.
  Trainer(const Model& model, Program& program, const Tokens& train, const Rates& rates, std::uint64_t seed, std::int64_t step = 0,
          int rank = 0);

  std::int64_t step() const { return step_.done(); }  // steps done
  std::int64_t steps_per_epoch() const { return draws_.steps_per_epoch(); }

  // Runs one step of a run of `steps` steps in total, at once on all ranks. Allocates nothing.
  StepResult run_step(std::int64_t steps);

 private:
  const Model& model_;
  Program& program_;
  const Tokens& train_;
  Draws draws_;
  TrainingStep step_;
  int rank_;
};

}  // namespace neurogen
