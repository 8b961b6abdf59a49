// Arithmetic that the compiler can vectorise, for every CPU in one binary.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

// Compiles a function for three generations of CPUs; one is picked at load time. Functions that it calls must be inlined into it
// (NEUROGEN_INLINE), or they stay at the oldest. Sanitizers cannot start a program with such functions.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(NEUROGEN_SANITIZE)
#define NEUROGEN_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define NEUROGEN_CLONES
#endif
#define NEUROGEN_INLINE inline __attribute__((always_inline))
#define NEUROGEN_LAMBDA __attribute__((always_inline))

namespace neurogen {

// e^x to about one unit in the last place, without a branch: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial in r (the coefficients
// of Cephes' expf, S. Moshier), and n added to the exponent. 0 below the smallest normal number; above 88.37 the value at 88.37, so
// that the result is never infinite; NaN stays NaN.
NEUROGEN_INLINE float fast_exp(float x) {
  constexpr float kLargest = 88.3762626f, kSmallest = -87.3365402f, kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds
  const float bounded = x > kLargest ? kLargest : x < kSmallest ? kSmallest : x;
  const float shifted = bounded * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (bounded - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const std::uint32_t exponent = std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(kRound) + 127u;
  const float power = p * std::bit_cast<float>(exponent << 23);
  return x < kSmallest ? 0.0f : power;
}
// float64 is for checking the formulas, not for speed.
NEUROGEN_INLINE double fast_exp(double x) { return std::exp(x); }

template <typename Real>
NEUROGEN_INLINE Real sigmoid(Real x) {
  return Real(1) / (Real(1) + fast_exp(-x));
}
template <typename Real>
NEUROGEN_INLINE Real silu(Real x) {
  return x * sigmoid(x);
}
template <typename Real>
NEUROGEN_INLINE Real silu_derivative(Real x) {
  const Real s = sigmoid(x);
  return s * (Real(1) + x * (Real(1) - s));
}

// A bound for logits: cap tanh(x / cap) (Gemma 2, arXiv:2408.00118), by tanh x = 1 - 2 / (1 + e^2x). The derivative is a function
// of the result. Uncapped has the same shape and does nothing.
template <typename Real>
struct Softcap {
  Real cap, twice;  // twice: 2 / cap
  explicit Softcap(double bound) : cap(static_cast<Real>(bound)), twice(static_cast<Real>(2 / bound)) {}
  NEUROGEN_INLINE Real operator()(Real x) const { return cap - 2 * cap / (Real(1) + fast_exp(x * twice)); }
  NEUROGEN_INLINE Real derivative(Real capped) const {
    const Real part = capped / cap;
    return Real(1) - part * part;
  }
};
template <typename Real>
struct Uncapped {
  NEUROGEN_INLINE Real operator()(Real x) const { return x; }
  NEUROGEN_INLINE Real derivative(Real) const { return Real(1); }
};
template <typename Real, typename Body>
void dispatch_softcap(double cap, Body&& body) {
  if (cap > 0) body(Softcap<Real>(cap));
  else body(Uncapped<Real>());
}

// Sum of term(0) ... term(n - 1) in 32 interleaved partial sums: the order depends only on n, never on alignment or on the width of
// the CPU's vectors.
template <typename Real, typename Term>
NEUROGEN_INLINE Real sum_over(std::int64_t n, Term&& term) {
  constexpr std::int64_t kLanes = 32;
  Real lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma omp simd
    for (std::int64_t j = 0; j < kLanes; ++j) lanes[j] += term(i + j);
  }
  for (std::int64_t j = 0; i + j < n; ++j) lanes[j] += term(i + j);
  for (std::int64_t half = kLanes / 2; half > 0; half /= 2)
    for (std::int64_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  return lanes[0];
}

}  // namespace neurogen
