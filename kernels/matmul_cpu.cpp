#include <algorithm>
#include <limits>
#include <type_traits>

#include "kernels/base/dispatch.h"
#include "kernels/base/openblas.h"
#include "kernels/matmul.h"

namespace neurogen {
namespace {

// Output tiles: large enough for cheap packing of the operands, small enough for a few threads to share them evenly.
constexpr std::int64_t kTileRows = 256, kTileColumns = 640;

template <typename Real>
void matmul_tiles(CpuDevice& device, const Matmul& p, std::int64_t m, std::int64_t n, std::int64_t k) {
  const std::int64_t across = (n + kTileColumns - 1) / kTileColumns, down = (m + kTileRows - 1) / kTileRows;
  const std::int64_t lda = p.a.row_stride, ldb = p.b.row_stride, ldc = p.c.row_stride;
  const bool ta = p.transpose_a == Transpose::yes, tb = p.transpose_b == Transpose::yes;
  device.parallel(down * across, [&](std::int64_t tile, int) {
    const std::int64_t row = tile / across * kTileRows, column = tile % across * kTileColumns;
    matmul_serial<Real>(p.transpose_a, p.transpose_b, std::min(kTileRows, m - row), std::min(kTileColumns, n - column), k,
                        p.a.as<const Real>() + row * (ta ? 1 : lda), lda, p.b.as<const Real>() + column * (tb ? ldb : 1), ldb,
                        static_cast<Real>(p.beta), p.c.as<Real>() + row * ldc + column, ldc);
  });
}

}  // namespace

template <typename Real>
void matmul_serial(Transpose transpose_a, Transpose transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const Real* a,
                   std::int64_t lda, const Real* b, std::int64_t ldb, Real beta, Real* c, std::int64_t ldc) {
  if (m == 0 || n == 0) return;
  const auto op = [](Transpose t) { return t == Transpose::yes ? OpenBlas::kTrans : OpenBlas::kNoTrans; };
  OpenBlas::Gemm<Real> gemm;
  if constexpr (std::is_same_v<Real, float>) gemm = openblas().sgemm;
  else gemm = openblas().dgemm;
  gemm(OpenBlas::kRowMajor, op(transpose_a), op(transpose_b), static_cast<int>(m), static_cast<int>(n), static_cast<int>(k),
       Real(1), a, static_cast<int>(lda), b, static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}
template void matmul_serial<float>(Transpose, Transpose, std::int64_t, std::int64_t, std::int64_t, const float*, std::int64_t,
                                   const float*, std::int64_t, float, float*, std::int64_t);
template void matmul_serial<double>(Transpose, Transpose, std::int64_t, std::int64_t, std::int64_t, const double*, std::int64_t,
                                    const double*, std::int64_t, double, double*, std::int64_t);

void matmul(CpuDevice& device, const Matmul& p) {
  const bool ta = p.transpose_a == Transpose::yes, tb = p.transpose_b == Transpose::yes;
  require(p.a.rank == 2 && p.b.rank == 2 && p.c.rank == 2, "matmul: operands must be matrices");
  const std::int64_t m = p.c[0], n = p.c[1], k = p.a[ta ? 0 : 1];
  require(p.a[ta ? 1 : 0] == m && p.b[tb ? 0 : 1] == n && p.b[tb ? 1 : 0] == k, "matmul: the operands' shapes do not match");
  require(p.beta == 0 || p.beta == 1, "matmul: beta must be 0 or 1");
  require_type("matmul", p.c.dtype, {p.a, p.b});
  for (const std::int64_t extent : {k, p.a.row_stride, p.b.row_stride, p.c.row_stride})
    require(extent <= std::numeric_limits<int>::max(), "matmul: a matrix is wider than 2^31: make the batch smaller");
  dispatch_real(p.c.dtype, [&](auto zero) { matmul_tiles<decltype(zero)>(device, p, m, n, k); });
}

}  // namespace neurogen
