#include "engine/run/trainer.h"

#include "engine/run/batch.h"

namespace neurogen {

Trainer::Trainer(const Model& model, Program& program, const Tokens& train, const Rates& rates, std::uint64_t seed,
                 std::int64_t step)
    : model_(model),
      program_(program),
      train_(train),
      draws_(train, model.options.window, model.options.step_sequences(), seed),
      step_(model, program, rates, step) {}

StepResult Trainer::run_step(std::int64_t steps) {
  const std::int64_t batch = model_.options.batch;
  return step_.run(steps, [&](std::int64_t k) {
    for (std::int64_t i = 0; i < batch; ++i)
      fill_sequence(model_, program_, train_, i, draws_.begin(step(), k * batch + i), model_.options.window);
  });
}

}  // namespace neurogen
