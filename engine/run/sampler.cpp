#include "engine/run/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/dispatch.h"
#include "kernels/random.h"

namespace neurogen {
namespace {

constexpr std::uint64_t kStream = 2000;  // apart from the streams of the first weights

template <typename T>
std::span<T> span_of(const TensorView& view) {
  return {view.as<T>(), static_cast<std::size_t>(view.elements())};
}

}  // namespace

SamplerTensors declare_sampler(Graph& graph, std::int64_t vocabulary) {
  const auto tensor = [&](const char* name, DType type) {
    return graph.tensor(name, type, {vocabulary}, BufferKind::derived, ArenaKind::host);
  };
  return {tensor("sampler.weights", DType::f64), tensor("sampler.order", DType::i32), tensor("sampler.seen", DType::u8),
          tensor("sampler.silent", DType::u8)};
}

SamplerMemory memory_of(const SamplerTensors& tensors, const Program& program) {
  return {span_of<double>(program.view(tensors.weights)), span_of<std::int32_t>(program.view(tensors.order)),
          span_of<std::uint8_t>(program.view(tensors.seen)), span_of<std::uint8_t>(program.view(tensors.silent))};
}

void Sampler::use(const Sampling& sampling) {
  sampling_ = sampling;
  drawn_ = 0;
}

void Sampler::forget() { std::fill(memory_.seen.begin(), memory_.seen.end(), std::uint8_t{0}); }

template <typename Real>
void Sampler::penalise(const Real* logits) {
  for (std::size_t i = 0; i < memory_.weights.size(); ++i) {
    const double x = static_cast<double>(logits[i]);
    if (!std::isfinite(x)) throw Error("the brain's logits are not finite: its weights are damaged", Error::kRunTime);
    const double penalised = x > 0 ? x / sampling_.repetition_penalty : x * sampling_.repetition_penalty;
    memory_.weights[i] = memory_.silent[i] ? -INFINITY : memory_.seen[i] ? penalised : x;
  }
}

std::span<const double> Sampler::distribution(const TensorView& logits) {
  dispatch_real(logits.dtype, [&](auto zero) { penalise(logits.as<const decltype(zero)>()); });
  const std::span<double> weights = memory_.weights;
  const std::span<std::int32_t> order = memory_.order;
  const auto best = std::max_element(weights.begin(), weights.end());
  const double highest = *best;
  if (sampling_.temperature == 0 || highest == -INFINITY) {
    std::fill(weights.begin(), weights.end(), 0.0);
    *best = 1;
    return weights;
  }
  for (double& w : weights) w = std::exp((w - highest) / sampling_.temperature);

  // The tokens that are left, in the first `left` places of the order; what is dropped has no weight.
  auto left = order.end();
  const auto weight = [&](std::int32_t token) -> double& { return weights[static_cast<std::size_t>(token)]; };
  const auto likelier = [&](std::int32_t a, std::int32_t b) { return weight(a) > weight(b) || (weight(a) == weight(b) && a < b); };
  const auto keep = [&](std::span<std::int32_t>::iterator end) {
    for (auto token = end; token != left; ++token) weight(*token) = 0;
    left = end;
  };
  const bool cut_k = sampling_.top_k > 0 && sampling_.top_k < static_cast<std::int64_t>(order.size());
  if (cut_k || sampling_.top_p < 1) std::iota(order.begin(), order.end(), 0);
  if (cut_k) {
    const auto end = order.begin() + sampling_.top_k;
    std::nth_element(order.begin(), end, left, likelier);
    keep(end);
  }
  if (sampling_.top_p < 1) {
    std::sort(order.begin(), left, likelier);
    const double wanted = sampling_.top_p * std::accumulate(weights.begin(), weights.end(), 0.0);
    auto end = order.begin();
    for (double held = weight(*end++); held < wanted && end != left; ++end) held += weight(*end);
    keep(end);
  }
  for (double& w : weights) w = w < sampling_.min_p ? 0 : w;  // the likeliest has weight 1
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& w : weights) w /= sum;
  return weights;
}

std::int32_t Sampler::draw(const TensorView& logits) {
  const std::span<const double> p = distribution(logits);
  double rest = uniform(static_cast<std::uint64_t>(sampling_.seed), kStream, drawn_++);
  for (std::size_t i = 0; i < p.size(); ++i) {
    rest -= p[i];
    if (rest < 0) return static_cast<std::int32_t>(i);
  }
  return static_cast<std::int32_t>(std::max_element(p.begin(), p.end()) - p.begin());  // rounding ate the last sliver
}

double log_probability(const TensorView& logits, std::int32_t token) {
  double result = 0;
  dispatch_real(logits.dtype, [&](auto zero) {
    const auto* x = logits.as<const decltype(zero)>();
    const double highest = static_cast<double>(*std::max_element(x, x + logits.elements()));
    double sum = 0;
    for (std::int64_t i = 0; i < logits.elements(); ++i) sum += std::exp(static_cast<double>(x[i]) - highest);
    result = static_cast<double>(x[token]) - highest - std::log(sum);
  });
  return result;
}

}  // namespace neurogen
