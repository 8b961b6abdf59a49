#include "engine/run/sampler.h"

#include <algorithm>
#include <cmath>

#include "kernels/dispatch.h"
#include "kernels/random.h"

namespace neurogen {
namespace {
constexpr std::uint64_t kStream = 2000;  // apart from the streams of the first weights
}

Sampler::Sampler(std::int64_t vocabulary, double temperature, std::uint64_t seed)
    : temperature_(temperature),
      seed_(seed),
      weights_(static_cast<std::size_t>(vocabulary)),
      banned_(static_cast<std::size_t>(vocabulary), false) {}

std::int32_t Sampler::draw(const TensorView& logits) {
  dispatch_real(logits.dtype, [&](auto zero) {
    const auto* in = logits.as<const decltype(zero)>();
    for (std::size_t i = 0; i < weights_.size(); ++i) weights_[i] = banned_[i] ? -INFINITY : static_cast<double>(in[i]);
  });
  const auto best = std::max_element(weights_.begin(), weights_.end());
  if (temperature_ == 0) return static_cast<std::int32_t>(best - weights_.begin());
  const double highest = *best;
  double sum = 0;
  for (double& w : weights_) sum += w = std::exp((w - highest) / temperature_);
  double rest = uniform(seed_, kStream, drawn_++) * sum;
  for (std::size_t i = 0; i < weights_.size(); ++i) {
    rest -= weights_[i];
    if (rest < 0) return static_cast<std::int32_t>(i);
  }
  return static_cast<std::int32_t>(best - weights_.begin());  // rounding ate the last sliver
}

}  // namespace neurogen
