// Dense matrix products: C = op(A) op(B) + beta C, row-major.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/device.h"

namespace neurogen {

enum class Transpose : bool { no, yes };

// c [m, n], op(a) [m, k], op(b) [k, n]; all f32 or all f64; rows may be strided. c must not overlap a or b.
// beta is 0 (c may hold anything, NaN included) or 1.
struct Matmul {
  TensorView a, b, c;
  Transpose transpose_a = Transpose::no, transpose_b = Transpose::no;
  double beta = 0;
};

// Spread over the device's threads in tiles that depend on the shape alone: equal bits for every thread count.
void matmul(CpuDevice& device, const Matmul& product);
void matmul(CudaDevice& device, const Matmul& product);

// From here on c is cleared before cuBLAS makes a product with beta 0, which changes no bit of it. For compute-sanitizer: initcheck
// does not see what is stored by bulk copies (in its version 2025.3 none of them), and would blame whoever reads that.
void clear_products(CudaDevice& device);

// The same on the calling thread, from inside CpuDevice::parallel. ld*: elements from one row to the next.
template <typename Real>
void matmul_serial(Transpose transpose_a, Transpose transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const Real* a,
                   std::int64_t lda, const Real* b, std::int64_t ldb, Real beta, Real* c, std::int64_t ldc);

}  // namespace neurogen
