// Dense matrix products: C = scale op(A) op(B) + beta C, row-major.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"

namespace neurogen {

enum class Transpose : bool { no, yes };

// c [m, n], op(a) [m, k], op(b) [k, n]; rows may be strided. Or all three have one dimension more in front, and are contiguous:
// that many products, each with the bits that it has alone. On a CPU all are f32 or all f64; on a GPU a and b share one of f32,
// bf16 and f16, c may have another, and sums are in f32. c must not overlap a or b. beta is 0 (c may hold anything, NaN included)
// or 1.
struct Matmul {
  TensorView a, b, c;
  Transpose transpose_a = Transpose::no, transpose_b = Transpose::no;
  double beta = 0, scale = 1;
};

// Runs on the device's threads in tiles that depend only on the shape: equal bits for every number of threads.
void matmul(CpuDevice& device, const Matmul& product);
void matmul(CudaDevice& device, const Matmul& product);

// Clears c before every later cuBLAS product with beta 0, which changes no bit of the result. For compute-sanitizer: initcheck
// (version 2025.3) does not see memory written by bulk copies, and would report every read of it.
void clear_products(CudaDevice& device);

// The same on the calling thread, for use inside CpuDevice::parallel. ld*: elements from one row to the next.
template <typename Real>
void matmul_serial(Transpose transpose_a, Transpose transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, const Real* a,
                   std::int64_t lda, const Real* b, std::int64_t ldb, Real beta, Real* c, std::int64_t ldc, Real scale = 1);

}  // namespace neurogen
