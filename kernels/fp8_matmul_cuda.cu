#include <cuda_fp8.h>

#include "kernels/base/cublas.cuh"
#include "kernels/base/cuda_kernel.cuh"
#include "kernels/fp8_matmul.h"
#include "kernels/matmul.h"

namespace neurogen {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kUnit = 16;  // of rows and columns

__global__ void __launch_bounds__(kThreads)
    round_to_fp8(const __nv_bfloat16* from, std::int64_t stride, std::int64_t width, float scale, std::uint8_t* to) {
  const std::int64_t i = 8 * (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x);
  if (i >= width) return;
  float x[8];
  read_eight(x, from + blockIdx.y * stride + i);
  Neighbours<4, __nv_fp8x2_storage_t> y;
#pragma unroll
  for (int e = 0; e < 4; ++e)
    y.at[e] = __nv_cvt_float2_to_fp8x2({scale * x[2 * e], scale * x[2 * e + 1]}, __NV_SATFINITE, __NV_E4M3);
  *reinterpret_cast<Neighbours<4, __nv_fp8x2_storage_t>*>(to + blockIdx.y * width + i) = y;
}

void round_rows(CudaDevice& device, const TensorView& from, const TensorView& to, double scale) {
  launch(device, "fp8_matmul", round_to_fp8, dim3(pieces(from[1] / 8, kThreads), pieces(from[0], 1)), dim3(kThreads), 0,
         from.as<const __nv_bfloat16>(), from.row_stride, from[1], static_cast<float>(scale), to.as<std::uint8_t>());
}

void require_blas(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(std::string("the GPU failed in fp8_matmul: ") + cublas().status_string(status), Error::kRunTime);
}

// A matrix of cuBLAS, column by column.
class Layout {
 public:
  Layout(cudaDataType type, std::int64_t rows, std::int64_t columns, std::int64_t stride) {
    require_blas(
        cublas_lt().layout_create(&layout_, type, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns), stride));
  }
  ~Layout() { cublas_lt().layout_destroy(layout_); }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  operator cublasLtMatrixLayout_t() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

// c = a8 b8^T / (scales), in f32 with sums promoted on the way. cuBLAS is column-major: c^T = b8 a8^T.
void product(CudaDevice& device, const TensorView& a8, const TensorView& b8, const TensorView& c, const TensorView& workspace) {
  const CublasLt& lt = cublas_lt();
  const auto& native = device.native();
  const std::int64_t m = c[0], n = c[1], k = a8[1];
  const Layout a(CUDA_R_8F_E4M3, k, n, k), b(CUDA_R_8F_E4M3, k, m, k), out(CUDA_R_16BF, n, m, c.row_stride);
  cublasLtMatmulDesc_t description = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  require_blas(lt.description_create(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  require_blas(lt.preference_create(&preference));
  const cublasOperation_t transpose = CUBLAS_OP_T;
  const std::uint64_t bytes = workspace ? static_cast<std::uint64_t>(workspace.elements()) : 0;
  require_blas(lt.description_set(description, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose));
  require_blas(lt.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes));
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const auto handle = reinterpret_cast<cublasLtHandle_t>(native.cublas);
  require_blas(lt.heuristic(handle, description, a, b, out, out, preference, 1, &best, &found));
  const auto alpha = static_cast<float>(1 / (kFp8ScaleA * kFp8ScaleB));
  const float beta = 0;
  require_blas(lt.matmul(handle, description, &alpha, b8.data, a, a8.data, b, &beta, c.data, out, c.data, out, &best.algo,
                         workspace.data, bytes, native.stream));
  lt.preference_destroy(preference);
  lt.description_destroy(description);
}

}  // namespace

void fp8_matmul(CudaDevice& device, const Fp8Matmul& p) {
  const std::int64_t n = p.c[1], rows = p.b8[0];
  require_operands(p.a.dtype == DType::bf16 && p.b.dtype == DType::bf16 && p.c.dtype == DType::bf16,
                   "fp8_matmul: a, b and c must be bf16");
  require_operands(p.a[1] % kUnit == 0 && n % kUnit == 0 && rows % kUnit == 0, "fp8_matmul: k, n and rows must be multiples of 16");
  if (device.capability() < kFp8Capability) return matmul(device, {p.a, p.b, p.c, Transpose::no, Transpose::yes, 0});
  round_rows(device, p.a, p.a8, kFp8ScaleA);
  for (std::int64_t begin = 0; begin < n; begin += rows) {
    const std::int64_t count = std::min(rows, n - begin);
    round_rows(device, p.b.rows(begin, count), p.b8.rows(0, count), kFp8ScaleB);
    product(device, p.a8, p.b8.rows(0, count), p.c.columns(begin, count), p.workspace);
  }
}

}  // namespace neurogen
