#include "engine/run/trainer.h"

#include <algorithm>
#include <new>

#include "engine/run/batch.h"
#include "kernels/dispatch.h"

namespace neurogen {

double rate_factor(std::int64_t step, std::int64_t steps, std::int64_t warmup) {
  const double s = static_cast<double>(step), all = static_cast<double>(steps);
  const double up = warmup > 0 ? std::min(1.0, (s + 1) / static_cast<double>(warmup)) : 1.0;
  return up * (s < all / 2 ? 1.0 : std::max(0.05, 2 - 2 * s / all));
}

Trainer::Trainer(const Brain& brain, Program& program, const Tokens& train, const Rates& rates, std::uint64_t seed,
                 std::int64_t step)
    : brain_(brain),
      program_(program),
      train_(train),
      rates_(rates),
      draws_(train, brain.options.window, brain.options.batch, seed),
      step_(step),
      range_(brain.graph.program("train")) {}

StepResult Trainer::run_step(std::int64_t steps) {
  for (std::int64_t i = 0; i < brain_.options.batch; ++i) {
    fill_sequence(brain_, program_, train_, i, draws_.begin(step_, i), brain_.options.window);
  }
  const double factor = rate_factor(step_, steps, rates_.warmup);
  *program_.view(brain_.host_control).as<StepControl>() = {step_, static_cast<float>(factor * rates_.learning_rate),
                                                      static_cast<float>(factor * rates_.embedding),
                                                      static_cast<float>(factor * rates_.decoder), 0};
  program_.run(range_);
  ++step_;
#ifdef NEUROGEN_FAULT_ALLOCATE  // the fault build of tests/allocation: a counter that misses this counts nothing
  if (step_ == 3) ::operator delete(::operator new(Bytes{1} << 25));
#endif
  StepResult result;
  const double* loss = program_.view(brain_.host_loss).as<const double>();
  result.loss = loss[0] / loss[1];
  result.rate = factor * rates_.learning_rate;
  const TensorView norm = program_.view(brain_.host_norm);
  dispatch_real(norm.dtype, [&](auto zero) { result.grad_norm = static_cast<double>(norm.as<const decltype(zero)>()[0]); });
  if (brain_.host_outcome) {
    const StepControl& outcome = step_control(program_.view(brain_.host_outcome));
    result.loss_scale = static_cast<double>(outcome.loss_scale);
    result.overflow = outcome.overflow;
  }
  return result;
}

}  // namespace neurogen
