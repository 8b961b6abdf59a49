#include "kernels/cuda_kernel.cuh"
#include "kernels/matmul.h"

namespace neurogen {
namespace {

cudaDataType cuda_type(DType type) {
  switch (type) {
    case DType::f32: return CUDA_R_32F;
    case DType::bf16: return CUDA_R_16BF;
    case DType::f16: return CUDA_R_16F;
    default: throw Error(std::string("matmul: ") + name_of(type) + " is not supported on a GPU: use f32, bf16 or f16");
  }
}

}  // namespace

// cuBLAS counts by columns: what it takes for C^T = op(B)^T op(A)^T is our row-major C = op(A) op(B). Sums in f32.
void matmul(CudaDevice& device, const Matmul& p) {
  const bool ta = p.transpose_a == Transpose::yes, tb = p.transpose_b == Transpose::yes;
  require_operands(p.a.rank == 2 && p.b.rank == 2 && p.c.rank == 2, "matmul: an operand is not a matrix");
  const std::int64_t m = p.c[0], n = p.c[1], k = p.a[ta ? 0 : 1];
  require_operands(p.a[ta ? 1 : 0] == m && p.b[tb ? 0 : 1] == n && p.b[tb ? 1 : 0] == k,
                   "matmul: the operands' shapes do not fit together");
  require_operands(p.beta == 0 || p.beta == 1, "matmul: beta is neither 0 nor 1");
  require_operands(p.a.dtype == p.b.dtype, "matmul: the factors differ in type");
  if (m == 0 || n == 0) return;
  const float alpha = 1, beta = static_cast<float>(p.beta);
  const auto transposed = [](bool yes) { return yes ? CUBLAS_OP_T : CUBLAS_OP_N; };
  const cublasStatus_t status = cublas().gemm_ex(
      device.native().cublas, transposed(tb), transposed(ta), n, m, k, &alpha, p.b.data, cuda_type(p.b.dtype), p.b.row_stride,
      p.a.data, cuda_type(p.a.dtype), p.a.row_stride, &beta, p.c.data, cuda_type(p.c.dtype), p.c.row_stride, CUBLAS_COMPUTE_32F,
      CUBLAS_GEMM_DEFAULT);
  if (status != CUBLAS_STATUS_SUCCESS) {
    throw Error(std::string("the GPU failed in matmul: ") + cublas().status_string(status), Error::kRunTime);
  }
}

}  // namespace neurogen
