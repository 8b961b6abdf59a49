#include "engine/run/trainer.h"

#include <fmt/format.h>

#include "arena/error.h"
#include "engine/files/shuffle.h"
#include "engine/run/batch.h"

namespace neurogen {

std::int64_t steps_per_epoch(const Tokens& text, const BrainOptions& options) {
  const std::int64_t batches = windows(text.size(), options.window) / options.batch;
  if (batches == 0) {
    throw Error(fmt::format("the training text has {} tokens, a batch of {} windows needs {}: use more text, a smaller --batch or a "
                            "shorter --seq",
                            text.size(), options.batch, options.tokens() + 1));
  }
  return batches;
}

Trainer::Trainer(const Brain& brain, Program& program, const Tokens& train, const Rates& rates, std::uint64_t seed,
                 std::int64_t step)
    : brain_(brain),
      program_(program),
      train_(train),
      seed_(seed),
      windows_(windows(train.size(), brain.options.window)),
      batches_(neurogen::steps_per_epoch(train, brain.options)),
      step_(brain, program, rates, step) {}

StepResult Trainer::run_step(std::int64_t steps) {
  const std::int64_t batch = brain_.options.batch;
  const Shuffle order(static_cast<std::uint64_t>(windows_), seed_, static_cast<std::uint64_t>(step() / batches_));
  for (std::int64_t i = 0; i < batch; ++i) {
    const auto index = static_cast<std::int64_t>(order(static_cast<std::uint64_t>(step() % batches_ * batch + i)));
    fill_sequence(brain_, program_, train_, i, index * brain_.options.window, brain_.options.window);
  }
  return step_.run(steps);
}

}  // namespace neurogen
