#include "engine/run/training_step.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <new>

#include "arena/error.h"
#include "kernels/base/dispatch.h"
#include "kernels/base/step_control.h"
#include "kernels/loss_scale.h"

namespace neurogen {

double rate_factor(std::int64_t step, std::int64_t steps, std::int64_t warmup) {
  const double s = static_cast<double>(step), all = static_cast<double>(steps);
  const double up = warmup > 0 ? std::min(1.0, (s + 1) / static_cast<double>(warmup)) : 1.0;
  return up * (s < all / 2 ? 1.0 : std::max(0.05, 2 - 2 * s / all));
}

Rates complete(Rates rates, const Model& model) {
  const Architecture::Rates usual = model.architecture->rates(model.options.optimizer);
  constexpr double kAdapters = 2e-4;  // their usual rate
  if (!rates.learning_rate) rates.learning_rate = model.options.lora.rank > 0 ? kAdapters : usual.vectors;
  if (!rates.synapse_rate) rates.synapse_rate = usual.matrices;
  return rates;
}

void TrainingStep::set_control(std::int64_t steps) {
  const double factor = rate_factor(done_, steps, rates_.warmup);
  *program_.view(model_.ports.control).as<StepControl>() = {
      done_, static_cast<float>(factor * *rates_.learning_rate), static_cast<float>(factor * rates_.table_rate),
      static_cast<float>(factor * rates_.decoder_rate), static_cast<float>(factor * *rates_.synapse_rate)};
  rate_ = factor * *rates_.learning_rate;
}

void TrainingStep::finish(StepResult& result) {
  ++done_;
#ifdef NEUROGEN_FAULT_ALLOCATE  // fault build of tests/allocation: its counter must see this
  if (done_ == 3) ::operator delete(::operator new (Bytes{1} << 25));
#endif
  result.rate = rate_;
  const TensorView norm = program_.view(model_.ports.norm);
  dispatch_real(norm.dtype, [&](auto zero) { result.grad_norm = static_cast<double>(norm.as<const decltype(zero)>()[0]); });
  if (model_.ports.outcome) {
    const StepControl& outcome = step_control(program_.view(model_.ports.outcome));
    result.loss_scale = static_cast<double>(outcome.loss_scale);
    result.overflow = outcome.overflow;
  }
}

void check_finite(const StepResult& result, std::int64_t step) {
  // A gradient that overflowed under the loss scale was not applied; at the smallest scale the overflow has another cause.
  const bool skipped = result.overflow != 0 && result.loss_scale > std::exp2(kLeastLossScale);
  if (std::isfinite(result.loss) && (std::isfinite(result.grad_norm) || skipped)) return;
  throw Error(
      {fmt::format("the {} of step {} is not finite: train with a lower ", std::isfinite(result.loss) ? "gradient" : "loss", step),
       Field("learning_rate")},
      Error::kRunTime);
}

void check_rates(const Rates& rates) {
  if (rates.warmup < 0) throw Error({Field("warmup"), fmt::format(" is {}: use a number of steps", rates.warmup)});
  for (const auto& [name, value] : {std::pair{"learning_rate", rates.learning_rate.value_or(0)},
                                    {"synapse_rate", rates.synapse_rate.value_or(0)},
                                    {"table_rate", rates.table_rate},
                                    {"decoder_rate", rates.decoder_rate}}) {
    if (!(value >= 0 && value <= 1e3)) throw Error({Field(name), fmt::format(" is {}: use a rate from 0 to 1000", value)});
  }
}

}  // namespace neurogen
