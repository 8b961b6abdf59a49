// The root-mean-square norm of one row on a CPU, for the operations that contain it.
#pragma once
#include "kernels/base/vector_math.h"
#include "kernels/rms_norm.h"

namespace neurogen {

// 1 / sqrt(mean(x^2) + epsilon)
template <typename Real>
NEUROGEN_INLINE Real inverse_rms_of(const Real* x, std::int64_t n, Real epsilon = static_cast<Real>(kRmsEpsilon)) {
  const Real sum = sum_over<Real>(n, [=](std::int64_t i) NEUROGEN_LAMBDA { return x[i] * x[i]; });
  return Real(1) / std::sqrt(sum / static_cast<Real>(n) + epsilon);
}

// out = x / rms(x) * gain
template <typename Real>
NEUROGEN_CLONES void rms_normalise(const Real* x, const Real* gain, Real* out, Real* inverse_rms, std::int64_t n) {
  const Real inverse = inverse_rms_of(x, n);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) out[i] = x[i] * inverse * gain[i];
  *inverse_rms = inverse;
}

// The norm without a gain, in place: x = x / rms(x)
template <typename Real>
NEUROGEN_CLONES void rms_normalise(Real* x, Real epsilon, Real* inverse_rms, std::int64_t n) {
  *inverse_rms = inverse_rms_of(x, n, epsilon);
  for (std::int64_t i = 0; i < n; ++i) x[i] *= *inverse_rms;
}

// Its backward pass, in place, from the norm's output: d = inverse (d - out mean(d out))
template <typename Real>
NEUROGEN_CLONES void rms_norm_backward(Real* d, const Real* out, Real inverse_rms, std::int64_t n) {
  const Real dot = sum_over<Real>(n, [=](std::int64_t i) NEUROGEN_LAMBDA { return d[i] * out[i]; }) / static_cast<Real>(n);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) d[i] = inverse_rms * (d[i] - out[i] * dot);
}

}  // namespace neurogen
