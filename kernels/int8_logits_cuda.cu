#include "kernels/base/cublas.cuh"
#include "kernels/base/cuda_softmax.cuh"
#include "kernels/int8_logits.h"

namespace neurogen {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kUnit = 16;  // of rows and columns

// A block has a row.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    round_row(const T* from, std::int64_t stride, std::int64_t width, std::int8_t* to, float* scale) {
  __shared__ std::uint32_t warps[kThreads / 32];
  const T* row = from + blockIdx.x * stride;
  std::uint32_t largest = 0;  // as bits, of which those of NaN are the largest
  float x[8];
  for (std::int64_t i = 8 * threadIdx.x; i < width; i += 8 * kThreads) {
    read_eight(x, row + i);
#pragma unroll
    for (const float one : x) largest = max(largest, __float_as_uint(fabsf(one)));
  }
  for (int step = 16; step > 0; step /= 2) largest = max(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, step));
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = largest;
  __syncthreads();
  for (const std::uint32_t one : warps) largest = max(largest, one);
  const float most = __uint_as_float(largest), inverse = most > 0 ? 127 / most : 0;
  for (std::int64_t i = 8 * threadIdx.x; i < width; i += 8 * kThreads) {
    read_eight(x, row + i);
    Neighbours<8, std::int8_t> y;
#pragma unroll
    for (int e = 0; e < 8; ++e) y.at[e] = static_cast<std::int8_t>(__float2int_rn(x[e] * inverse));
    *reinterpret_cast<Neighbours<8, std::int8_t>*>(to + blockIdx.x * width + i) = y;
  }
  if (threadIdx.x == 0) scale[blockIdx.x] = most / 127;
}

template <typename T>
void round_rows(CudaDevice& device, const TensorView& from, const TensorView& to, const TensorView& scale) {
  launch(device, "int8_logits", round_row<T>, dim3(pieces(from[0], 1)), dim3(kThreads), 0, from.as<const T>(), from.row_stride,
         from[1], to.as<std::int8_t>(), scale.as<float>());
}

// A block has the products of a token with a tile of the decoder.
template <typename T, typename Cap>
__global__ void __launch_bounds__(kThreads)
    scale_products(const std::int32_t* products, const float* features_scale, const float* weights_scale, std::int64_t width,
                   T* logits, std::int64_t stride, const std::int32_t* targets, std::int64_t first_token, Cap cap,
                   TiledStatistics all, float* target_logit) {
  const std::int64_t n = blockIdx.x, target = targets[n] - first_token;
  const float scale = features_scale[n];
  RunningSoftmax running;
  for (std::int64_t i = 4 * threadIdx.x; i < width; i += 4 * kThreads) {
    const int4 x = *reinterpret_cast<const int4*>(products + n * width + i);
    const float4 w = load_four(weights_scale + i);
    T* const to = logits + n * stride + i;
    store_four(to, {scale * w.x * static_cast<float>(x.x), scale * w.y * static_cast<float>(x.y),
                    scale * w.z * static_cast<float>(x.z), scale * w.w * static_cast<float>(x.w)});
    running.add(cap(load_four(to)));  // as memory holds them
    if (target >= i && target < i + 4) target_logit[n] = cap(to_float(to[target - i]));
  }
  const RowStatistics here = running.of_row<kThreads>(all.before(n));
  if (threadIdx.x == 0) all.store(n, here);
}

void require_blas(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw Error(std::string("the GPU failed in int8_logits: ") + cublas().status_string(status), Error::kRunTime);
}

// A matrix of cuBLAS, column by column.
class Layout {
 public:
  Layout(cudaDataType type, std::int64_t rows, std::int64_t columns) {
    require_blas(
        cublas_lt().layout_create(&layout_, type, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns), rows));
  }
  ~Layout() { cublas_lt().layout_destroy(layout_); }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  operator cublasLtMatrixLayout_t() const { return layout_; }

 private:
  cublasLtMatrixLayout_t layout_ = nullptr;
};

// products = x8 w8^T. cuBLAS is column-major: products^T = w8 x8^T.
void multiply(CudaDevice& device, const TensorView& x8, const TensorView& w8, const TensorView& products,
              const TensorView& workspace) {
  const CublasLt& lt = cublas_lt();
  const auto& native = device.native();
  const std::int64_t m = x8[0], n = w8[0], k = x8[1];
  const Layout w(CUDA_R_8I, k, n), x(CUDA_R_8I, k, m), out(CUDA_R_32I, n, m);
  cublasLtMatmulDesc_t description = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  require_blas(lt.description_create(&description, CUBLAS_COMPUTE_32I, CUDA_R_32I));
  require_blas(lt.preference_create(&preference));
  const cublasOperation_t transpose = CUBLAS_OP_T;
  const std::uint64_t bytes = workspace ? static_cast<std::uint64_t>(workspace.elements()) : 0;
  require_blas(lt.description_set(description, CUBLASLT_MATMUL_DESC_TRANSA, &transpose, sizeof transpose));
  require_blas(lt.preference_set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes));
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const auto handle = reinterpret_cast<cublasLtHandle_t>(native.cublas);
  require_blas(lt.heuristic(handle, description, w, x, out, out, preference, 1, &best, &found));
  const std::int32_t alpha = 1, beta = 0;
  require_blas(lt.matmul(handle, description, &alpha, w8.data, w, x8.data, x, &beta, products.data, out, products.data, out,
                         &best.algo, workspace.data, bytes, native.stream));
  lt.preference_destroy(preference);
  lt.description_destroy(description);
}

}  // namespace

void int8_logits(CudaDevice& device, const Int8Logits& p) {
  const std::int64_t vocabulary = p.logits[1], rows = p.weights8[0];
  require_operands(p.features[1] % kUnit == 0 && vocabulary % kUnit == 0 && rows % kUnit == 0,
                   "int8_logits: features, vocabulary and rows must be multiples of 16");
  require_operands(p.features.dtype == p.logits.dtype && p.decoder.dtype == p.logits.dtype,
                   "int8_logits: features, decoder and logits must be of one type");
  const auto run = [&](auto zero, auto cap) {
    using T = decltype(zero);
    round_rows<T>(device, p.features, p.features8, p.features_scale);
    for (std::int64_t begin = 0; begin < vocabulary; begin += rows) {
      const std::int64_t count = std::min(rows, vocabulary - begin);
      const TensorView logits = p.logits.columns(begin, count);
      round_rows<T>(device, p.decoder.rows(begin, count), p.weights8, p.weights_scale);
      multiply(device, p.features8, p.weights8.rows(0, count), p.products, p.workspace);
      launch(device, "int8_logits", scale_products<T, decltype(cap)>, dim3(pieces(logits[0], 1)), dim3(kThreads), 0,
             p.products.as<const std::int32_t>(), p.features_scale.as<const float>(), p.weights_scale.as<const float>(), count,
             logits.as<T>(), logits.row_stride, p.targets.as<const std::int32_t>(), begin, cap,
             TiledStatistics{p.maximum.as<float>(), p.sum.as<float>(), begin == 0}, p.target_logit.as<float>());
    }
  };
  dispatch_softcap(p.softcap, [&](auto cap) {
    if (p.logits.dtype == DType::bf16) run(__nv_bfloat16{}, cap);
    else if (p.logits.dtype == DType::f16) run(__half{}, cap);
    else throw Error("int8_logits: a GPU takes bf16 or f16");
  });
}

}  // namespace neurogen
