#include "engine/run/trainer.h"

#include "engine/run/batch.h"

namespace neurogen {

Trainer::Trainer(const Model& model, Program& program, const Tokens& train, const Rates& rates, std::uint64_t seed,
                 std::int64_t step)
    : model_(model),
      program_(program),
      train_(train),
      draws_(train, model.options.window, model.options.batch, seed),
      step_(model, program, rates, step) {}

StepResult Trainer::run_step(std::int64_t steps) {
  for (std::int64_t i = 0; i < model_.options.batch; ++i) {
    fill_sequence(model_, program_, train_, i, draws_.begin(step(), i), model_.options.window);
  }
  return step_.run(steps);
}

}  // namespace neurogen
