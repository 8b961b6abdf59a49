#include "kernels/base/dispatch.h"
#include "kernels/base/vector_math.h"
#include "kernels/gradient_norm.h"

namespace neurogen {
namespace {

template <typename Real>
NEUROGEN_CLONES void squares_of(const Real* x, std::int64_t n, double* sum) {
  *sum = sum_over<double>(n, [=](std::int64_t i) NEUROGEN_LAMBDA { return static_cast<double>(x[i]) * x[i]; });
}

}  // namespace

std::int64_t norm_partials(std::int64_t elements) { return (elements + kNormChunk - 1) / kNormChunk; }

void sum_of_squares(CpuDevice& device, const SumOfSquares& a) {
  std::int64_t count = 0;
  for (const auto& [x, rows] : a.tensors) {
    require(x.contiguous(), "sum_of_squares: tensors must be contiguous");
    count += norm_partials(x.elements());
  }
  require(a.partials.dtype == DType::f64 && a.partials.elements() == count,
          "sum_of_squares: the partial sums must be f64 [norm_partials(elements)]");
  double* partials = a.partials.as<double>();
  for (const auto& [x, rows] : a.tensors) {
    const std::int64_t elements = x.elements(), counted = rows ? *rows.as<const std::int32_t>() * x.row_elements() : elements;
    dispatch_real(x.dtype, [&, values = x.data](auto zero) {
      using Real = decltype(zero);
      parallel_pieces(device, elements, kNormChunk, [&](std::int64_t begin, std::int64_t end, int) {
        const std::int64_t n = std::clamp<std::int64_t>(counted - begin, 0, end - begin);
        squares_of<Real>(static_cast<const Real*>(values) + begin, n, partials + begin / kNormChunk);
      });
    });
    partials += norm_partials(elements);
  }
}

void clip_factor(CpuDevice&, const ClipFactor& a) {
  const double* const partials = a.partials.as<const double>();
  const double loss_scale = a.control ? static_cast<double>(step_control(a.control).loss_scale) : 1;
  const double norm = std::sqrt(sum_over<double>(a.partials.elements(), [=](std::int64_t i) { return partials[i]; })) / loss_scale;
  dispatch_real(a.norm.dtype, [&](auto zero) {
    using Real = decltype(zero);
    a.norm.as<Real>()[0] = static_cast<Real>(norm);
    a.norm.as<Real>()[1] = static_cast<Real>(std::min(1.0, a.limit / (norm + 1e-6)) / loss_scale);
  });
}

}  // namespace neurogen
