#include "kernels/base/cuda_kernel.cuh"
#include "kernels/matmul.h"

namespace neurogen {
namespace {

cudaDataType cuda_type(DType type) {
  switch (type) {
    case DType::f32:
      return CUDA_R_32F;
    case DType::bf16:
      return CUDA_R_16BF;
    case DType::f16:
      return CUDA_R_16F;
    default:
      throw Error(std::string("matmul: ") + name_of(type) + " is not supported on a GPU: use f32, bf16 or f16");
  }
}

constexpr int kRowThreads = 256;

// c[0, j] = scale a[0, :] b[j, :]^T + beta c[0, j], a warp per j in turn: limited only by reading b. k is a multiple of 16 bytes.
// Two blocks per multiprocessor: without this bound, compilers spill registers to memory to make room for a fifth block.
template <typename T, typename C>
__global__ void __launch_bounds__(kRowThreads, 2)
    row_product(const T* a, const T* b, std::int64_t b_stride, C* c, std::int64_t n, std::int64_t k, float beta, float scale) {
  constexpr int kWide = 16 / sizeof(T), kLine = 32 * kWide;
  using Vector = Neighbours<kWide, T>;
  const std::int64_t warps = static_cast<std::int64_t>(gridDim.x) * (kRowThreads / 32);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * (kRowThreads / 32) + threadIdx.x / 32; j < n; j += warps) {
    const T* const row = b + j * b_stride;
    float sum = 0;
#pragma unroll 8
    for (std::int64_t i = lane * kWide; i < k; i += kLine) {
      const Vector x = *reinterpret_cast<const Vector*>(a + i), y = *reinterpret_cast<const Vector*>(row + i);
#pragma unroll
      for (int e = 0; e < kWide; ++e) sum = fmaf(to_float(x.at[e]), to_float(y.at[e]), sum);
    }
    sum = warp_sum(sum);
    if (lane == 0) c[j] = from_float<C>(beta == 0 ? scale * sum : scale * sum + beta * to_float(c[j]));
  }
}

// Whether row_product handles it; for a single row cuBLAS reads b at only half of the memory's rate.
bool is_row_product(const Matmul& p) {
  const auto aligned = [](const TensorView& x) {
    const auto bytes = static_cast<std::int64_t>(size_of(x.dtype));
    return reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 && x.row_stride * bytes % 16 == 0 && x[1] * bytes % 16 == 0;
  };
  return p.c[0] == 1 && p.transpose_a == Transpose::no && p.transpose_b == Transpose::yes && aligned(p.a) && aligned(p.b);
}

}  // namespace

void clear_products(CudaDevice& device) { device.native().clears_products = true; }

// cuBLAS is column-major: its C^T = op(B)^T op(A)^T is our row-major C = op(A) op(B). Sums are in f32.
void matmul(CudaDevice& device, const Matmul& p) {
  const bool ta = p.transpose_a == Transpose::yes, tb = p.transpose_b == Transpose::yes, batched = p.c.rank == 3;
  require_operands(p.a.rank == p.c.rank && p.b.rank == p.c.rank && (p.c.rank == 2 || batched),
                   "matmul: operands must be matrices, or all batches of them");
  require_operands(!batched || (p.a.contiguous() && p.b.contiguous() && p.c.contiguous() && p.a[0] == p.c[0] && p.b[0] == p.c[0]),
                   "matmul: batches must be contiguous and equally many");
  // Extents of one matrix of a batch.
  const auto rows = [&](const TensorView& x) { return x[batched ? 1 : 0]; };
  const auto columns = [&](const TensorView& x) { return x[batched ? 2 : 1]; };
  const auto stride = [&](const TensorView& x) { return batched ? x[2] : x.row_stride; };
  const std::int64_t m = rows(p.c), n = columns(p.c), k = ta ? rows(p.a) : columns(p.a);
  require_operands(
      (ta ? columns(p.a) : rows(p.a)) == m && (tb ? rows(p.b) : columns(p.b)) == n && (tb ? columns(p.b) : rows(p.b)) == k,
      "matmul: the operands' shapes do not match");
  require_operands(p.beta == 0 || p.beta == 1, "matmul: beta must be 0 or 1");
  require_operands(p.a.dtype == p.b.dtype, "matmul: the factors differ in type");
  if (p.c.elements() == 0) return;
  const float alpha = static_cast<float>(p.scale), beta = static_cast<float>(p.beta);
  // For an odd number of columns, or of summed elements, cuBLAS has only slow kernels: those beyond a multiple apart.
  constexpr std::int64_t kWhole = 64;
  if (!batched && m > 1 && n % 8 != 0 && n > kWhole) {
    const auto part = [&](std::int64_t begin, std::int64_t count) {
      matmul(device, {p.a, tb ? p.b.rows(begin, count) : p.b.columns(begin, count), p.c.columns(begin, count), p.transpose_a,
                      p.transpose_b, p.beta, p.scale});
    };
    part(0, n / kWhole * kWhole);
    return part(n / kWhole * kWhole, n % kWhole);
  }
  if (!batched && m > 1 && k % 8 != 0 && k > kWhole) {
    const auto part = [&](std::int64_t begin, std::int64_t count, double beta_of_part) {
      matmul(device,
             {ta ? p.a.rows(begin, count) : p.a.columns(begin, count), tb ? p.b.columns(begin, count) : p.b.rows(begin, count), p.c,
              p.transpose_a, p.transpose_b, beta_of_part, p.scale});
    };
    part(0, k / kWhole * kWhole, p.beta);
    return part(k / kWhole * kWhole, k % kWhole, 1);
  }
  if (!batched && is_row_product(p)) {
    dispatch_float(p.a.dtype, [&](auto factor) {
      dispatch_float(p.c.dtype, [&](auto result) {
        using T = decltype(factor);
        using C = decltype(result);
        const unsigned blocks = std::min(pieces(n, kRowThreads / 32), static_cast<unsigned>(device.multiprocessors()) * 8);
        launch(device, "matmul", row_product<T, C>, dim3(blocks), dim3(kRowThreads), 0, p.a.as<const T>(), p.b.as<const T>(),
               p.b.row_stride, p.c.as<C>(), n, k, beta, alpha);
      });
    });
    return;
  }
  if (device.native().clears_products && p.beta == 0) {
    const std::size_t one = size_of(p.c.dtype);
    require_cuda(cudaMemset2DAsync(p.c.data, one * static_cast<std::size_t>(stride(p.c)), 0, one * static_cast<std::size_t>(n),
                                   static_cast<std::size_t>(batched ? p.c[0] * m : m), stream_of(device)),
                 "matmul");
  }
  const cublasHandle_t handle = device.native().cublas;
  const cublasOperation_t op_b = tb ? CUBLAS_OP_T : CUBLAS_OP_N, op_a = ta ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cudaDataType factor = cuda_type(p.a.dtype), result = cuda_type(p.c.dtype);
  const cublasStatus_t status =
      batched ? cublas().gemm_batched_ex(handle, op_b, op_a, n, m, k, &alpha, p.b.data, factor, stride(p.b), p.b.row_stride,
                                         p.a.data, factor, stride(p.a), p.a.row_stride, &beta, p.c.data, result, stride(p.c),
                                         p.c.row_stride, p.c[0], CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT)
              : cublas().gemm_ex(handle, op_b, op_a, n, m, k, &alpha, p.b.data, factor, stride(p.b), p.a.data, factor, stride(p.a),
                                 &beta, p.c.data, result, stride(p.c), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  if (status != CUBLAS_STATUS_SUCCESS) {
    throw Error(std::string("the GPU failed in matmul: ") + cublas().status_string(status), Error::kRunTime);
  }
}

}  // namespace neurogen
