#include <cmath>

#include "kernels/dispatch.h"
#include "kernels/gradient_norm.h"
#include "kernels/vector_math.h"

namespace neurogen {
namespace {

template <typename Real>
NEUROGEN_CLONES double squares(const Real* x, std::int64_t n) {
  return sum_over<double>(n, [=](std::int64_t i) NEUROGEN_LAMBDA { return static_cast<double>(x[i]) * static_cast<double>(x[i]); });
}

}  // namespace

std::int64_t norm_partials(std::int64_t elements) { return (elements + kNormChunk - 1) / kNormChunk; }

void sum_of_squares(CpuDevice& device, const SumOfSquares& a) {
  const std::int64_t counted = a.rows ? *a.rows.as<const std::int32_t>() * a.x.row_elements() : a.x.elements();
  dispatch_real(a.x.dtype, [&](auto zero) {
    using Real = decltype(zero);
    parallel_pieces(device, a.x.elements(), kNormChunk, [&](std::int64_t begin, std::int64_t end, int) {
      const std::int64_t n = std::max<std::int64_t>(0, std::min(end, counted) - begin);
      a.partials.as<double>()[begin / kNormChunk] = squares(a.x.as<const Real>() + begin, n);
    });
  });
}

void clip_factor(CpuDevice&, const ClipFactor& a) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.partials.elements(); ++i) sum += a.partials.as<const double>()[i];
  const double norm = std::sqrt(sum), factor = std::min(1.0, a.limit / (norm + 1e-6));
  dispatch_real(a.norm.dtype, [&](auto zero) {
    using Real = decltype(zero);
    a.norm.as<Real>()[0] = static_cast<Real>(norm);
    a.norm.as<Real>()[1] = static_cast<Real>(factor);
  });
}

}  // namespace neurogen
