#include "kernels/base/dispatch.h"
#include "kernels/base/vector_math.h"
#include "kernels/rowwise_rmsprop.h"

namespace neurogen {
namespace {

constexpr std::int64_t kRows = 8;  // that one thread takes at a time

template <typename Real>
NEUROGEN_CLONES void update_row(const Real* gradient, Real clip, Real rate, Real* row, Real* v, std::int64_t width) {
  const Real squares = sum_over<Real>(width, [=](std::int64_t e) NEUROGEN_LAMBDA {
    const Real g = gradient[e] * clip;
    return g * g;
  });
  *v += static_cast<Real>(1 - kRowwiseBeta) * (squares / static_cast<Real>(width));
  const Real factor = rate / std::sqrt(*v + static_cast<Real>(kRowwiseEpsilon));
#pragma omp simd
  for (std::int64_t e = 0; e < width; ++e) row[e] -= factor * (gradient[e] * clip);
}

}  // namespace

void rowwise_rmsprop(CpuDevice& device, const RowwiseRmsprop& a) {
  require_type("rowwise_rmsprop", a.table.dtype, {a.norm, a.d_rows, a.v});
  const StepControl& control = step_control(a.control);
  if (control.overflow != 0) return;
  dispatch_real(a.table.dtype, [&](auto zero) {
    using Real = decltype(zero);
    Real* const v = a.v.as<Real>();
    const Real clip = a.norm.as<const Real>()[1];
    const auto rate = static_cast<Real>(static_cast<double>(control.table_learning_rate) * std::sqrt(1 - kRowwiseBeta));
    for (std::int64_t r = 0; r < a.v.elements(); ++r) v[r] *= static_cast<Real>(kRowwiseBeta);
    const auto* const rows = a.rows.as<const std::int32_t>();
    parallel_pieces(device, rows ? *a.count.as<const std::int32_t>() : a.v.elements(), kRows,
                    [&](std::int64_t begin, std::int64_t end, int) {
                      for (std::int64_t i = begin; i < end; ++i) {
                        const std::int64_t row = rows ? rows[i] : i;
                        update_row<Real>(a.d_rows.as<const Real>() + i * a.d_rows.row_stride, clip, rate,
                                         a.table.as<Real>() + row * a.table.row_stride, v + row, a.table[1]);
                      }
                    });
  });
}

}  // namespace neurogen
