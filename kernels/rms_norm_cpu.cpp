#include "kernels/rms_norm_cpu.h"

#include "kernels/base/dispatch.h"
#include "kernels/rms_norm.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 16;  // tokens that one thread takes at a time

template <typename Real>
NEUROGEN_CLONES void mean_of_products(const Real* a, const Real* b, Real* mean, std::int64_t width) {
  *mean = sum_over<Real>(width, [=](std::int64_t o) NEUROGEN_LAMBDA { return a[o] * b[o]; }) / static_cast<Real>(width);
}

}  // namespace

void rms_norm_forward(CpuDevice& device, const RmsNormForward& a) {
  require_type("rms_norm_forward", a.x.dtype, {a.gain, a.out, a.inverse_rms});
  dispatch_real(a.x.dtype, [&](auto zero) {
    using Real = decltype(zero);
    parallel_pieces(device, a.x[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t n = begin; n < end; ++n)
        rms_normalise<Real>(a.x.as<const Real>() + n * a.x.row_stride, a.gain.as<const Real>(),
                            a.out.as<Real>() + n * a.out.row_stride, a.inverse_rms.as<Real>() + n, a.x[1]);
    });
  });
}

void rms_norm_backward_dot(CpuDevice& device, const RmsNormBackwardDot& a) {
  require_type("rms_norm_backward_dot", a.d_out.dtype, {a.out, a.dot});
  dispatch_real(a.d_out.dtype, [&](auto zero) {
    using Real = decltype(zero);
    parallel_pieces(device, a.d_out[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t n = begin; n < end; ++n)
        mean_of_products<Real>(a.d_out.as<const Real>() + n * a.d_out.row_stride, a.out.as<const Real>() + n * a.out.row_stride,
                               a.dot.as<Real>() + n, a.d_out[1]);
    });
  });
}

}  // namespace neurogen
