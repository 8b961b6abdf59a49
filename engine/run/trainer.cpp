#include "engine/run/trainer.h"

#include "engine/run/batch.h"

namespace neurogen {

Trainer::Trainer(const Brain& brain, Program& program, const Tokens& train, const Rates& rates, std::uint64_t seed,
                 std::int64_t step)
    : brain_(brain),
      program_(program),
      train_(train),
      draws_(train, brain.options.window, brain.options.batch, seed),
      step_(brain, program, rates, step) {}

StepResult Trainer::run_step(std::int64_t steps) {
  for (std::int64_t i = 0; i < brain_.options.batch; ++i) {
    fill_sequence(brain_, program_, train_, i, draws_.begin(step(), i), brain_.options.window);
  }
  return step_.run(steps);
}

}  // namespace neurogen
