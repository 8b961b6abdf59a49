#include "engine/run/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/dispatch.h"
#include "kernels/random.h"
#include "kernels/vector_math.h"

namespace neurogen {
namespace {

constexpr std::uint64_t kStream = 2000;  // apart from the streams of the first weights

template <typename T>
std::span<T> span_of(const TensorView& view) {
  return {view.as<T>(), static_cast<std::size_t>(view.elements())};
}

constexpr std::size_t kPiece = 256;

// The functions below pass over a whole vocabulary for every token: the compiler makes them vector code, exponentials in the logits'
// own type.

NEUROGEN_CLONES double sum_of(std::span<const double> values) {
  const double* const v = values.data();
  return sum_over<double>(static_cast<std::int64_t>(values.size()), [=](std::int64_t i) NEUROGEN_LAMBDA { return v[i]; });
}

// The logits, after the penalty, into the weights; returns the highest, NaN where one is not finite.
template <typename Real>
NEUROGEN_CLONES double penalise(const Real* logits, const SamplerMemory& memory, double penalty) {
  const auto n = static_cast<std::int64_t>(memory.weights.size());
  double* const weights = memory.weights.data();
  const std::uint8_t *const seen = memory.seen.data(), *const silent = memory.silent.data();
  double highest = -INFINITY, nothing = 0;
#pragma omp simd reduction(max : highest) reduction(+ : nothing)
  for (std::int64_t i = 0; i < n; ++i) {
    const double x = static_cast<double>(logits[i]), divided = x * (1 / penalty), multiplied = x * penalty;
    const std::uint8_t was_seen = seen[i], is_silent = silent[i];
    const double penalised = was_seen != 0 ? (x > 0 ? divided : multiplied) : x;
    nothing += x - x;  // of an infinity, no number
    const double weight = is_silent != 0 ? -INFINITY : penalised;
    highest = weight > highest ? weight : highest;
    weights[i] = weight;
  }
  return nothing == 0 ? highest : NAN;
}

template <typename Real>
NEUROGEN_CLONES void exponentials(std::span<double> weights, double highest, double temperature) {
  double* const w = weights.data();
  const auto n = static_cast<std::int64_t>(weights.size());
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) w[i] = static_cast<double>(fast_exp(static_cast<Real>((w[i] - highest) / temperature)));
}

// The likeliest has weight 1.
NEUROGEN_CLONES void normalise(std::span<double> weights, double min_p) {
  double* const w = weights.data();
  const auto n = static_cast<std::int64_t>(weights.size());
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) w[i] = w[i] < min_p ? 0 : w[i];
  const double sum = sum_over<double>(n, [=](std::int64_t i) NEUROGEN_LAMBDA { return w[i]; });
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) w[i] /= sum;
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

std::span<const double> Sampler::distribution(const TensorView& logits) {
  const std::span<double> weights = memory_.weights;
  const std::span<std::int32_t> order = memory_.order;
  double highest = 0;
  dispatch_real(logits.dtype, [&](auto zero) {
    highest = penalise(logits.as<const decltype(zero)>(), memory_, sampling_.repetition_penalty);
  });
  if (std::isnan(highest)) throw Error("the brain's logits are not finite: its weights are damaged", Error::kRunTime);
  if (sampling_.temperature == 0 || highest == -INFINITY) {
    double& best = *std::find(weights.begin(), weights.end(), highest);
    std::fill(weights.begin(), weights.end(), 0.0);
    best = 1;
    return weights;
  }
  dispatch_real(logits.dtype, [&](auto zero) { exponentials<decltype(zero)>(weights, highest, sampling_.temperature); });

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
  normalise(weights, sampling_.min_p);
  return weights;
}

std::int32_t Sampler::draw(const TensorView& logits) {
  const std::span<const double> p = distribution(logits);
  double rest = uniform(static_cast<std::uint64_t>(sampling_.seed), kStream, drawn_++);
  std::size_t i = 0;
  for (; i + kPiece <= p.size(); i += kPiece) {  // whole pieces are passed over
    const double piece = sum_of(p.subspan(i, kPiece));
    if (rest < piece) break;
    rest -= piece;
  }
  for (; i < p.size(); ++i) {
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
