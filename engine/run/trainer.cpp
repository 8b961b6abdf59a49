#include "engine/run/trainer.h"

#include "engine/run/batch.h"

namespace neurogen {

Trainer::Trainer(const Model& model, Program& program, const Tokens& train, const Rates& rates, std::uint64_t seed,
                 std::int64_t step, int rank)
    : model_(model),
      program_(program),
      train_(train),
      draws_(train, model.options.window, model.options.step_sequences(), seed),
      step_(model, program, rates, step),
      rank_(rank) {}

StepResult Trainer::run_step(std::int64_t steps) {
  const StepOptions& options = model_.options;
  return step_.run(steps, [&](std::int64_t k) {
    const std::int64_t first = options.first_sequence(rank_, k);
    for (std::int64_t i = 0; i < options.batch; ++i)
      fill_sequence(model_, program_, train_, i, draws_.begin(step(), first + i), options.window);
  });
}

}  // namespace neurogen
