#include "engine/run/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
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

constexpr std::int64_t kPiece = 256;

// The functions below pass over a whole vocabulary for every token: the compiler makes them vector code.

// Sums in float64, so that few digits are lost over a large vocabulary.
template <typename Real>
NEUROGEN_CLONES double sum_of(const Real* weights, std::int64_t n) {
  return sum_over<double>(n, [=](std::int64_t i) NEUROGEN_LAMBDA { return static_cast<double>(weights[i]); });
}

// The logits, after the penalty, into the weights; returns the highest, NaN where one is not finite.
template <typename Real>
NEUROGEN_CLONES Real penalise(const Real* logits, const std::uint8_t* seen, const std::uint8_t* silent, Real* weights, std::int64_t n,
                              Real penalty) {
  constexpr Real kNever = -std::numeric_limits<Real>::infinity();
  Real highest = kNever, nothing = 0;
#pragma omp simd reduction(max : highest) reduction(+ : nothing)
  for (std::int64_t i = 0; i < n; ++i) {
    const Real x = logits[i], divided = x * (1 / penalty), multiplied = x * penalty;
    const std::uint8_t was_seen = seen[i], is_silent = silent[i];
    const Real penalised = was_seen != 0 ? (x > 0 ? divided : multiplied) : x;
    nothing += x - x;  // of an infinity, no number
    const Real weight = is_silent != 0 ? kNever : penalised;
    highest = weight > highest ? weight : highest;
    weights[i] = weight;
  }
  return nothing == 0 ? highest : std::numeric_limits<Real>::quiet_NaN();
}

// The likeliest gets weight 1.
template <typename Real>
NEUROGEN_CLONES void exponentials(Real* weights, std::int64_t n, Real highest, Real temperature) {
  const Real sharpness = 1 / temperature;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) weights[i] = fast_exp((weights[i] - highest) * sharpness);
}

template <typename Real>
NEUROGEN_CLONES void drop_below(Real* weights, std::int64_t n, Real least) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) weights[i] = weights[i] < least ? Real(0) : weights[i];
}

// Drops all but the likeliest that top-k and top-p name. Lower ids come first among equals.
template <typename Real>
void keep_likeliest(Real* weights, std::span<std::int32_t> order, const Sampling& sampling) {
  const auto weight = [&](std::int32_t token) -> Real& { return weights[static_cast<std::size_t>(token)]; };
  const auto likelier = [&](std::int32_t a, std::int32_t b) { return weight(a) > weight(b) || (weight(a) == weight(b) && a < b); };
  const bool cut_k = sampling.top_k > 0 && sampling.top_k < static_cast<std::int64_t>(order.size());
  if (!cut_k && sampling.top_p >= 1) return;
  std::iota(order.begin(), order.end(), 0);
  auto left = order.begin(), end = order.end();  // what is neither dropped nor kept for good
  if (cut_k) {
    end = order.begin() + sampling.top_k;
    std::nth_element(order.begin(), end, order.end(), likelier);
    for (auto token = end; token != order.end(); ++token) weight(*token) = 0;
  }
  if (sampling.top_p >= 1) return;
  const double wanted = sampling.top_p * sum_of(weights, static_cast<std::int64_t>(order.size()));
  // A heap gives the likeliest one by one: of a large vocabulary few are asked for.
  const auto less_likely = [&](std::int32_t a, std::int32_t b) { return likelier(b, a); };
  std::make_heap(left, end, less_likely);
  double held = 0;
  do {
    std::pop_heap(left, end, less_likely);
    held += static_cast<double>(weight(*--end));
  } while (held < wanted && left != end);
  for (auto token = left; token != end; ++token) weight(*token) = 0;
}

template <typename Real>
void weigh_all(const Real* logits, const SamplerMemory& memory, const Sampling& sampling) {
  Real* const weights = memory.weights.as<Real>();
  const std::int64_t n = memory.weights.elements();
  const Real highest = penalise(logits, memory.seen.data(), memory.silent.data(), weights, n, static_cast<Real>(sampling.repetition_penalty));
  if (std::isnan(highest)) throw Error("the brain's logits are not finite: its weights are damaged", Error::kRunTime);
  if (sampling.temperature == 0 || std::isinf(highest)) {
    Real& best = *std::find(weights, weights + n, highest);
    std::fill_n(weights, n, Real(0));
    best = 1;
    return;
  }
  // Never 0 / 0, however cold.
  exponentials(weights, n, highest, std::max(static_cast<Real>(sampling.temperature), std::numeric_limits<Real>::min()));
  keep_likeliest(weights, memory.order, sampling);
  if (sampling.min_p > 0) drop_below(weights, n, static_cast<Real>(sampling.min_p));
}

// The token at which the weights' running sum passes a share of their sum.
template <typename Real>
std::int32_t token_at(const Real* weights, std::int64_t n, double share) {
  double rest = share * sum_of(weights, n);
  std::int64_t i = 0;
  for (; i + kPiece <= n; i += kPiece) {  // whole pieces are passed over
    const double piece = sum_of(weights + i, kPiece);
    if (rest < piece) break;
    rest -= piece;
  }
  for (; i < n; ++i) {
    rest -= static_cast<double>(weights[i]);
    if (rest < 0) return static_cast<std::int32_t>(i);
  }
  return static_cast<std::int32_t>(std::max_element(weights, weights + n) - weights);  // rounding ate the last sliver
}

}  // namespace

SamplerTensors declare_sampler(Graph& graph, std::int64_t vocabulary, DType logits) {
  const auto tensor = [&](const char* name, DType type) {
    return graph.tensor(name, type, {vocabulary}, BufferKind::derived, ArenaKind::host);
  };
  return {tensor("sampler.weights", logits), tensor("sampler.order", DType::i32), tensor("sampler.seen", DType::u8),
          tensor("sampler.silent", DType::u8)};
}

SamplerMemory memory_of(const SamplerTensors& tensors, const Program& program) {
  return {program.view(tensors.weights), span_of<std::int32_t>(program.view(tensors.order)),
          span_of<std::uint8_t>(program.view(tensors.seen)), span_of<std::uint8_t>(program.view(tensors.silent))};
}

void Sampler::use(const Sampling& sampling) {
  sampling_ = sampling;
  drawn_ = 0;
}

void Sampler::forget() { std::fill(memory_.seen.begin(), memory_.seen.end(), std::uint8_t{0}); }

const TensorView& Sampler::weigh(const TensorView& logits) {
  if (logits.dtype != memory_.weights.dtype) throw Error("a sampler's memory is of another type than the logits");
  dispatch_real(logits.dtype, [&](auto zero) { weigh_all(logits.as<const decltype(zero)>(), memory_, sampling_); });
  return memory_.weights;
}

std::int32_t Sampler::draw(const TensorView& logits) {
  const TensorView& weights = weigh(logits);
  const double share = uniform(static_cast<std::uint64_t>(sampling_.seed), kStream, drawn_++);
  std::int32_t token = 0;
  dispatch_real(weights.dtype, [&](auto zero) { token = token_at(weights.as<const decltype(zero)>(), weights.elements(), share); });
  return token;
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
