// Sums over rows on a CPU, for the operations that contain them (row_parts.h).
#pragma once
#include "kernels/base/dispatch.h"
#include "kernels/base/row_parts.h"
#include "kernels/base/vector_math.h"

namespace neurogen {

template <typename Real>
NEUROGEN_CLONES void sum_columns(const Real* sums, std::int64_t parts, std::int64_t stride, Real* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = 0;
  for (std::int64_t part = 0; part < parts; ++part)
#pragma omp simd
    for (std::int64_t i = 0; i < n; ++i) out[i] += sums[part * stride + i];
}

// Calls body(begin, end, sums of the part, columns of `sums`) for each part of the rows; the sums begin at 0.
template <typename Real, typename Body>
void for_row_parts(CpuDevice& device, std::int64_t rows, const TensorView& sums, Body&& body) {
  const std::int64_t piece = rows_per_part(rows);
  require(!sums || (sums[0] >= row_parts(rows) && sums.contiguous()), "sums over rows: the scratch is too small");
  parallel_pieces(device, rows, piece, [&](std::int64_t begin, std::int64_t end, int) {
    Real* const to = sums ? sums.as<Real>() + begin / piece * sums.row_stride : nullptr;
    if (to) std::fill_n(to, sums[1], Real(0));
    body(begin, end, to);
  });
}

// out [n] = the parts' sums of columns [column, column + n). Nothing if `out` is absent.
template <typename Real>
void finish_row_parts(CpuDevice& device, std::int64_t rows, const TensorView& sums, std::int64_t column, const TensorView& out) {
  if (!out) return;
  constexpr std::int64_t kColumns = 256;
  parallel_pieces(device, out.elements(), kColumns, [&](std::int64_t begin, std::int64_t end, int) {
    sum_columns(sums.as<const Real>() + column + begin, row_parts(rows), sums.row_stride, out.as<Real>() + begin, end - begin);
  });
}

}  // namespace neurogen
