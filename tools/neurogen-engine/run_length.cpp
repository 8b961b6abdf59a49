#include "tools/neurogen-engine/run_length.h"

#include <algorithm>

namespace neurogen {
namespace {

// The number of steps is estimated after this many steps, or this share of the time. Until then the rates do not decay.
constexpr std::int64_t kEstimateSteps = 50;
constexpr double kEstimateShare = 0.05;
constexpr double kForget =
    0.02;  // weight of the latest step in the mean time per step, so that it follows a machine that slows down

}  // namespace

RunLength::RunLength(std::int64_t steps, double minutes, std::int64_t first)
    : steps_(steps), most_(steps > 0 ? steps : INT64_MAX), first_(first), limit_(minutes * 60) {}

void RunLength::step_done(std::int64_t step, double seconds, double reserve) {
  training_seconds_ += seconds;
  const double own = static_cast<double>(step - first_);
  per_step_ = own <= 1 ? seconds : per_step_ + std::max(kForget, 1 / own) * (seconds - per_step_);
  if (limit_ == 0) return;
  const double now = elapsed(), left = limit_ - now - reserve;
  // Evaluations and saves take the same share of the remaining time as up to now.
  const double per_step = per_step_ * now / training_seconds_;
  out_of_time_ = left < per_step;
  if (step - first_ < kEstimateSteps && now < kEstimateShare * limit_) return;
  // At least one more step: a momentarily low estimate must not end the run.
  steps_ = std::min(most_, step + std::max<std::int64_t>(1, static_cast<std::int64_t>(std::min(left / per_step, 1e15))));
}

double RunLength::share(std::int64_t step) const {
  if (limit_ > 0) return std::min(1.0, elapsed() / limit_);
  return std::min(1.0, static_cast<double>(step) / static_cast<double>(steps_));
}

double RunLength::seconds_left(std::int64_t step) const {
  return limit_ > 0 ? std::max(0.0, limit_ - elapsed()) : per_step_ * static_cast<double>(steps_ - step);
}

}  // namespace neurogen
