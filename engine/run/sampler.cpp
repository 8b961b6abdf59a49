#include "engine/run/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/base/dispatch.h"
#include "kernels/base/random.h"
#include "kernels/base/vector_math.h"

namespace neurogen {
namespace {

constexpr std::uint64_t kStream = 2000;  // distinct from the streams of initial weights

template <typename T>
std::span<T> span_of(const TensorView& view) {
  return {view.as<T>(), static_cast<std::size_t>(view.elements())};
}

constexpr std::int64_t kPiece = 256;

// The functions below process the whole vocabulary for every token, and are compiled to vector code.

// Sums in float64, so that a large vocabulary loses few digits.
template <typename Real>
NEUROGEN_CLONES double sum_of(const Real* weights, std::int64_t n) {
  return sum_over<double>(n, [=](std::int64_t i) NEUROGEN_LAMBDA { return static_cast<double>(weights[i]); });
}

// Returns whether all are finite.
template <typename Real>
NEUROGEN_CLONES bool copy_finite(const Real* logits, Real* weights, std::int64_t n) {
  Real nothing = 0;
#pragma omp simd reduction(+ : nothing)
  for (std::int64_t i = 0; i < n; ++i) {
    nothing += logits[i] - logits[i];  // NaN for an infinity; NOLINT(misc-redundant-expression)
    weights[i] = logits[i];
  }
  return nothing == 0;
}

template <typename Real>
NEUROGEN_CLONES Real highest_of(const Real* weights, std::int64_t n) {
  Real highest = -std::numeric_limits<Real>::infinity();
#pragma omp simd reduction(max : highest)
  for (std::int64_t i = 0; i < n; ++i) highest = weights[i] > highest ? weights[i] : highest;
  return highest;
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

// Drops all but the likeliest tokens that top-k and top-p select. Lower ids win ties.
template <typename Real>
void keep_likeliest(Real* weights, std::span<std::int32_t> order, const Sampling& sampling) {
  const auto weight = [&](std::int32_t token) -> Real& { return weights[static_cast<std::size_t>(token)]; };
  const auto likelier = [&](std::int32_t a, std::int32_t b) { return weight(a) > weight(b) || (weight(a) == weight(b) && a < b); };
  const bool cut_k = sampling.top_k > 0 && sampling.top_k < static_cast<std::int64_t>(order.size());
  if (!cut_k && sampling.top_p >= 1) return;
  std::iota(order.begin(), order.end(), 0);
  auto left = order.begin(), end = order.end();  // tokens not yet dropped or kept
  if (cut_k) {
    end = order.begin() + sampling.top_k;
    std::nth_element(order.begin(), end, order.end(), likelier);
    for (auto token = end; token != order.end(); ++token) weight(*token) = 0;
  }
  if (sampling.top_p >= 1) return;
  const double wanted = sampling.top_p * sum_of(weights, static_cast<std::int64_t>(order.size()));
  // A heap yields the likeliest one by one: of a large vocabulary, few are needed.
  const auto less_likely = [&](std::int32_t a, std::int32_t b) { return likelier(b, a); };
  std::make_heap(left, end, less_likely);
  double held = 0;
  do {
    std::pop_heap(left, end, less_likely);
    held += static_cast<double>(weight(*--end));
  } while (held < wanted && left != end);
  for (auto token = left; token != end; ++token) weight(*token) = 0;
}

// Returns the token at which the running sum of weights passes a share of their sum.
template <typename Real>
std::int32_t token_at(const Real* weights, std::int64_t n, double share) {
  double rest = share * sum_of(weights, n);
  std::int64_t i = 0;
  for (; i + kPiece <= n; i += kPiece) {  // skip whole pieces
    const double piece = sum_of(weights + i, kPiece);
    if (rest < piece) break;
    rest -= piece;
  }
  for (; i < n; ++i) {
    rest -= static_cast<double>(weights[i]);
    if (rest < 0) return static_cast<std::int32_t>(i);
  }
  return static_cast<std::int32_t>(std::max_element(weights, weights + n) - weights);  // reached only by rounding
}

}  // namespace

SamplerTensors declare_sampler(Graph& graph, std::int64_t vocabulary, DType logits) {
  const auto tensor = [&](const char* name, DType type) {
    return graph.tensor(name, type, {vocabulary}, BufferKind::derived, ArenaKind::host);
  };
  return {tensor("sampler.weights", logits), tensor("sampler.order", DType::i32), tensor("sampler.seen", DType::i32),
          tensor("sampler.silent", DType::i32), tensor("sampler.is_seen", DType::u8)};
}

SamplerMemory memory_of(const SamplerTensors& tensors, const Program& program) {
  const auto tokens = [&](TensorId id) { return span_of<std::int32_t>(program.view(id)); };
  return {program.view(tensors.weights), tokens(tensors.order), tokens(tensors.seen), tokens(tensors.silent),
          span_of<std::uint8_t>(program.view(tensors.is_seen))};
}

void Sampler::use(const Sampling& sampling) {
  sampling_ = sampling;
  drawn_ = 0;
}

void Sampler::note(std::int32_t token) {
  std::uint8_t& is_seen = memory_.is_seen[static_cast<std::size_t>(token)];
  if (is_seen == 0) memory_.seen[seen_++] = token;
  is_seen = 1;
}

void Sampler::forget() {
  std::fill(memory_.is_seen.begin(), memory_.is_seen.end(), std::uint8_t{0});
  seen_ = 0;
}

template <typename Real>
void Sampler::weigh_all(const Real* logits) {
  Real* const weights = memory_.weights.as<Real>();
  const std::int64_t n = memory_.weights.elements();
  if (!copy_finite(logits, weights, n)) throw Error("the model's logits are not finite: its weights are damaged", Error::kRunTime);
  const Real penalty = static_cast<Real>(sampling_.repetition_penalty);
  for (const std::int32_t token : memory_.seen.first(seen_))
    weights[token] = weights[token] > 0 ? weights[token] / penalty : weights[token] * penalty;
  for (const std::int32_t token : memory_.silent.first(silent_)) weights[token] = -std::numeric_limits<Real>::infinity();
  const Real highest = highest_of(weights, n);
  if (sampling_.temperature == 0 || std::isinf(highest)) {
    Real& best = *std::find(weights, weights + n, highest);
    std::fill_n(weights, n, Real(0));
    best = 1;
    return;
  }
  // Clamped for extreme temperatures: no division by zero, and no product of -infinity (silenced tokens) and zero.
  using Limits = std::numeric_limits<Real>;
  exponentials(weights, n, highest,
               static_cast<Real>(std::clamp(sampling_.temperature, double{Limits::min()}, double{Limits::max()})));
  keep_likeliest(weights, memory_.order, sampling_);
  if (sampling_.min_p > 0) drop_below(weights, n, static_cast<Real>(sampling_.min_p));
}

const TensorView& Sampler::weigh(const TensorView& logits) {
  if (logits.dtype != memory_.weights.dtype) throw Error("the sampler's memory has another type than the logits");
  dispatch_real(logits.dtype, [&](auto zero) { weigh_all(logits.as<const decltype(zero)>()); });
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
