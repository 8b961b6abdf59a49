#include "kernels/base/row_parts_cpu.h"
#include "kernels/residual_norm.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 16;  // tokens that one thread takes at a time

template <typename Real>
NEUROGEN_CLONES void add(const Real* x, const Real* branch, const Real* bias, Real* y, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] + branch[i];
  if (!bias) return;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) y[i] += bias[i];
}

// y^ = (y - mean) inverse; the mean of an rms norm is 0.
template <typename Real>
struct Statistics {
  Real mean, inverse;
};

template <typename Real>
NEUROGEN_CLONES void statistics_of(const Real* y, std::int64_t n, bool layer, Real epsilon, Statistics<Real>* to) {
  const Real count = static_cast<Real>(n);
  const Real mean = layer ? sum_over<Real>(n, [=](std::int64_t i) NEUROGEN_LAMBDA { return y[i]; }) / count : Real(0);
  const Real squares = sum_over<Real>(n, [=](std::int64_t i) NEUROGEN_LAMBDA { return (y[i] - mean) * (y[i] - mean); });
  *to = {mean, Real(1) / std::sqrt(squares / count + epsilon)};
}

template <typename Real>
NEUROGEN_CLONES void normalise(const Real* y, Statistics<Real> s, const Real* gain, const Real* bias, Real* out, std::int64_t n) {
  const auto [mean, inverse] = s;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) out[i] = (y[i] - mean) * inverse * gain[i];
  if (!bias) return;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) out[i] += bias[i];
}

template <typename Real>
struct BackwardRow {
  const Real *y, *d_out, *gain;
  Real *d_y, *d_gain, *d_bias, *d_branch_bias;  // the last three: a part's sums
};

template <typename Real>
NEUROGEN_CLONES void backward_row(const BackwardRow<Real>& r, Statistics<Real> s, bool layer, bool stored, std::int64_t n) {
  const auto [y, d_out, gain, d_y, d_gain, d_bias, d_branch_bias] = r;
  const auto [mean, inverse] = s;
  const Real dot = sum_over<Real>(n, [&](std::int64_t i) NEUROGEN_LAMBDA { return d_out[i] * gain[i] * (y[i] - mean) * inverse; }) /
                   static_cast<Real>(n);
  const Real level =
      layer ? sum_over<Real>(n, [&](std::int64_t i) NEUROGEN_LAMBDA { return d_out[i] * gain[i]; }) / static_cast<Real>(n)
            : Real(0);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const Real normed = (y[i] - mean) * inverse, d = inverse * (d_out[i] * gain[i] - normed * dot - level);
    d_y[i] = stored ? d : d_y[i] + d;
    d_gain[i] += d_out[i] * normed;
    d_bias[i] += d_out[i];
    d_branch_bias[i] += d_y[i];
  }
}

template <typename Real>
const Real* row(const TensorView& x, std::int64_t n) {
  return x ? x.as<const Real>() + n * x.row_stride : nullptr;
}
template <typename Real>
Real* row_out(const TensorView& x, std::int64_t n) {
  return x.as<Real>() + n * x.row_stride;
}

template <typename Real>
void backward(CpuDevice& device, const ResidualNormBackward& a) {
  const std::int64_t rows = a.y[0], width = a.y[1];
  const bool layer = a.norm == Norm::layer;
  require(a.sums && a.sums[1] >= 3 * width, "residual_norm_backward: the sums are [row_parts(N), 3 D]");
  for_row_parts<Real>(device, rows, a.sums, [&](std::int64_t begin, std::int64_t end, Real* sums) {
    for (std::int64_t n = begin; n < end; ++n) {
      const Statistics<Real> s{layer ? a.mean.as<const Real>()[n] : Real(0), a.inverse.as<const Real>()[n]};
      const Real* const y = row<Real>(a.y, n);
      Real* const d_y = row_out<Real>(a.d_y, n);
      backward_row<Real>({y, row<Real>(a.d_out, n), a.gain.as<const Real>(), d_y, sums, sums + width, sums + 2 * width}, s, layer,
                         a.stored, width);
      if (a.d_branch) std::copy_n(d_y, width, row_out<Real>(a.d_branch, n));
      if (a.normed) normalise<Real>(y, s, a.gain.as<const Real>(), a.bias.as<const Real>(), row_out<Real>(a.normed, n), width);
    }
  });
  finish_row_parts<Real>(device, rows, a.sums, 0, a.d_gain);
  finish_row_parts<Real>(device, rows, a.sums, width, a.d_bias);
  finish_row_parts<Real>(device, rows, a.sums, 2 * width, a.d_branch_bias);
}

}  // namespace

void residual_norm_forward(CpuDevice& device, const ResidualNormForward& a) {
  require_type("residual_norm_forward", a.x.dtype, {a.branch, a.branch_bias, a.y, a.gain, a.bias, a.out, a.mean, a.inverse});
  const bool layer = a.norm == Norm::layer;
  require(layer == static_cast<bool>(a.mean), "residual_norm_forward: a layer norm has a mean, an rms norm has none");
  dispatch_real(a.x.dtype, [&](auto zero) {
    using Real = decltype(zero);
    const std::int64_t width = a.x[1];
    parallel_pieces(device, a.x[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t n = begin; n < end; ++n) {
        const Real* y = row<Real>(a.x, n);
        if (a.branch) {
          Real* const sum = row_out<Real>(a.y, n);
          add<Real>(y, row<Real>(a.branch, n), a.branch_bias.as<const Real>(), sum, width);
          y = sum;
        }
        Statistics<Real> s;
        statistics_of<Real>(y, width, layer, static_cast<Real>(a.epsilon), &s);
        if (layer) a.mean.as<Real>()[n] = s.mean;
        a.inverse.as<Real>()[n] = s.inverse;
        normalise<Real>(y, s, a.gain.as<const Real>(), a.bias.as<const Real>(), row_out<Real>(a.out, n), width);
      }
    });
  });
}

void residual_norm_backward(CpuDevice& device, const ResidualNormBackward& a) {
  require_type(
      "residual_norm_backward", a.y.dtype,
      {a.mean, a.inverse, a.gain, a.bias, a.d_out, a.d_y, a.d_branch, a.normed, a.d_gain, a.d_bias, a.d_branch_bias, a.sums});
  dispatch_real(a.y.dtype, [&](auto zero) { backward<decltype(zero)>(device, a); });
}

}  // namespace neurogen
