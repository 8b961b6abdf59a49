#include <algorithm>
#include <cmath>

#include "kernels/base/dispatch.h"
#include "kernels/fp8_matmul.h"

namespace neurogen {
namespace {

// The nearest number of the 8-bit type; of two, the even one.
double fp8(double x) {
  constexpr double kLargest = 448;
  constexpr int kLeastExponent = -6, kMantissa = 3;
  if (std::isnan(x)) return x;
  if (x == 0 || std::abs(x) >= kLargest) return std::clamp(x, -kLargest, kLargest);
  const double unit = std::ldexp(1.0, std::max(std::ilogb(x), kLeastExponent) - kMantissa);
  return std::nearbyint(x / unit) * unit;
}

}  // namespace

void fp8_matmul(CpuDevice& device, const Fp8Matmul& p) {
  require_type("fp8_matmul", p.c.dtype, {p.a, p.b});
  const std::int64_t n = p.c[1], k = p.a[1];
  dispatch_real(p.c.dtype, [&](auto zero) {
    using Real = decltype(zero);
    device.parallel(p.c[0], [&](std::int64_t i, int) {
      for (std::int64_t j = 0; j < n; ++j) {
        const Real *const a = p.a.as<const Real>() + i * p.a.row_stride, *const b = p.b.as<const Real>() + j * p.b.row_stride;
        double sum = 0;
        for (std::int64_t l = 0; l < k; ++l) sum += fp8(kFp8ScaleA * a[l]) * fp8(kFp8ScaleB * b[l]);
        p.c.as<Real>()[i * p.c.row_stride + j] = static_cast<Real>(sum / (kFp8ScaleA * kFp8ScaleB));
      }
    });
  });
}

}  // namespace neurogen
