#include <algorithm>
#include <limits>
#include <type_traits>

#include "kernels/base/dispatch.h"
#include "kernels/base/openblas.h"
#include "kernels/base/vector_math.h"
#include "kernels/matmul.h"

namespace neurogen {
namespace {

// Output tiles: large enough for cheap packing of the operands, small enough for a few threads to share them evenly.
constexpr std::int64_t kTileRows = 256, kTileColumns = 640;

// One matrix of a batch of `count`.
struct Operand {
  TensorView all;
  std::int64_t count, rows, columns, stride;

  explicit Operand(const TensorView& x)
      : all(x),
        count(x.rank == 3 ? x[0] : 1),
        rows(x[x.rank - 2]),
        columns(x[x.rank - 1]),
        stride(x.rank == 3 ? columns : x.row_stride) {}
  template <typename Real>
  Real* at(std::int64_t matrix, std::int64_t row, std::int64_t column) const {
    return all.as<Real>() + matrix * rows * columns + row * stride + column;
  }
};

// For small products of few columns, neither factor transposed, OpenBLAS (0.3.21) allocates at every call.
constexpr std::int64_t kNarrow = 16, kSmallProduct = 1'000'000;

// The same without: rows of b in blocks, padded to a whole vector.
template <typename Real>
NEUROGEN_CLONES void narrow_product(std::int64_t m, std::int64_t n, std::int64_t k, const Real* a, std::int64_t lda, const Real* b,
                                    std::int64_t ldb, Real beta, Real* c, std::int64_t ldc, Real scale) {
  constexpr std::int64_t kRows = 128;
  for (std::int64_t begin = 0; begin < k; begin += kRows) {
    const std::int64_t rows = std::min(kRows, k - begin);
    Real padded[kRows][kNarrow] = {};
    for (std::int64_t l = 0; l < rows; ++l) std::copy_n(b + (begin + l) * ldb, n, padded[l]);
    for (std::int64_t i = 0; i < m; ++i) {
      Real sums[kNarrow] = {};
      for (std::int64_t l = 0; l < rows; ++l) {
        const Real x = a[i * lda + begin + l];
#pragma omp simd
        for (std::int64_t j = 0; j < kNarrow; ++j) sums[j] += x * padded[l][j];
      }
      Real* const row = c + i * ldc;
      const bool adds = begin > 0 || beta != 0;  // beta is 0 or 1
      for (std::int64_t j = 0; j < n; ++j) row[j] = adds ? row[j] + scale * sums[j] : scale * sums[j];
    }
  }
}

template <typename Real>
void matmul_tiles(CpuDevice& device, const Matmul& p, const Operand& a, const Operand& b, const Operand& c) {
  const std::int64_t across = (c.columns + kTileColumns - 1) / kTileColumns, down = (c.rows + kTileRows - 1) / kTileRows;
  const bool ta = p.transpose_a == Transpose::yes, tb = p.transpose_b == Transpose::yes;
  device.parallel(c.count * down * across, [&](std::int64_t item, int) {
    const std::int64_t i = item / (down * across), tile = item % (down * across);
    const std::int64_t row = tile / across * kTileRows, column = tile % across * kTileColumns;
    matmul_serial<Real>(p.transpose_a, p.transpose_b, std::min(kTileRows, c.rows - row), std::min(kTileColumns, c.columns - column),
                        ta ? a.rows : a.columns, ta ? a.at<const Real>(i, 0, row) : a.at<const Real>(i, row, 0), a.stride,
                        tb ? b.at<const Real>(i, column, 0) : b.at<const Real>(i, 0, column), b.stride, static_cast<Real>(p.beta),
                        c.at<Real>(i, row, column), c.stride, static_cast<Real>(p.scale));
  });
}

}  // namespace

template <typename Real>
void matmul_serial(Transpose transpose_a, Transpose transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const Real* a,
                   std::int64_t lda, const Real* b, std::int64_t ldb, Real beta, Real* c, std::int64_t ldc, Real scale) {
  if (m == 0 || n == 0) return;
  if (transpose_a == Transpose::no && transpose_b == Transpose::no && n < kNarrow && m * n * k <= kSmallProduct)
    return narrow_product(m, n, k, a, lda, b, ldb, beta, c, ldc, scale);
  const auto op = [](Transpose t) { return t == Transpose::yes ? OpenBlas::kTrans : OpenBlas::kNoTrans; };
  OpenBlas::Gemm<Real> gemm;
  if constexpr (std::is_same_v<Real, float>) gemm = openblas().sgemm;
  else gemm = openblas().dgemm;
  gemm(OpenBlas::kRowMajor, op(transpose_a), op(transpose_b), static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), scale,
       a, static_cast<int>(lda), b, static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}
template void matmul_serial<float>(Transpose, Transpose, std::int64_t, std::int64_t, std::int64_t, const float*, std::int64_t,
                                   const float*, std::int64_t, float, float*, std::int64_t, float);
template void matmul_serial<double>(Transpose, Transpose, std::int64_t, std::int64_t, std::int64_t, const double*, std::int64_t,
                                    const double*, std::int64_t, double, double*, std::int64_t, double);

void matmul(CpuDevice& device, const Matmul& p) {
  const bool ta = p.transpose_a == Transpose::yes, tb = p.transpose_b == Transpose::yes;
  for (const TensorView& x : {p.a, p.b, p.c})
    require(x.rank == 2 || (x.rank == 3 && x.contiguous()), "matmul: operands must be matrices, or contiguous batches of them");
  const Operand a(p.a), b(p.b), c(p.c);
  const std::int64_t k = ta ? a.rows : a.columns;
  require((ta ? a.columns : a.rows) == c.rows && (tb ? b.rows : b.columns) == c.columns && (tb ? b.columns : b.rows) == k &&
              a.count == c.count && b.count == c.count,
          "matmul: the operands' shapes do not match");
  require(p.beta == 0 || p.beta == 1, "matmul: beta must be 0 or 1");
  require_type("matmul", p.c.dtype, {p.a, p.b});
  for (const std::int64_t extent : {k, a.stride, b.stride, c.stride})
    require(extent <= std::numeric_limits<int>::max(), "matmul: a matrix is wider than 2^31: make the batch smaller");
  dispatch_real(p.c.dtype, [&](auto zero) { matmul_tiles<decltype(zero)>(device, p, a, b, c); });
}

}  // namespace neurogen
