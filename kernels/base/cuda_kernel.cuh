// Shared by the CUDA operations: the stream, checked launches, element types, and sums in a fixed order.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "arena/error.h"
#include "arena/tensor_view.h"
#include "kernels/base/cublas.cuh"
#include "kernels/base/cuda_device.h"

namespace neurogen {

struct CudaDevice::Native {
  int ordinal = 0;
  cudaDeviceProp properties{};
  cudaStream_t stream = nullptr;
  cublasHandle_t cublas = nullptr;
  cudaEvent_t marks[2] = {nullptr, nullptr};
  int marked = 0;  // the mark to set next
  std::vector<cudaEvent_t> numbered;
  bool capturing = false;
  Nccl* nccl = nullptr;  // with several ranks, one of the two
  Peers* peers = nullptr;
  bool clears_products = false;  // see clear_products (matmul.h)
  std::int64_t synchronizations = 0;
  Bytes used_before = 0;  // on the GPU, before this process's context
  Bytes shared_memory_limit = UINT64_MAX;
};

inline cudaStream_t stream_of(CudaDevice& device) { return device.native().stream; }

inline void require_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess)
    throw Error(std::string("the GPU failed in ") + what + ": " + cudaGetErrorString(status), Error::kRunTime);
}
inline void require_operands(bool condition, const char* sentence) {
  if (!condition) throw Error(sentence);
}

// Launches kernel<<<grid, block, shared>>>(arguments...) on the device's stream. `name` is the operation, for error messages.
template <typename... Parameters, typename... Arguments>
void launch(CudaDevice& device, const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared,
            Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  kernel<<<grid, block, shared, stream_of(device)>>>(static_cast<Parameters>(arguments)...);
  require_cuda(cudaGetLastError(), name);
}

inline unsigned pieces(std::int64_t n, std::int64_t piece) { return static_cast<unsigned>((n + piece - 1) / piece); }

// Calls body(T{}) with float, __nv_bfloat16 or __half.
template <typename Body>
void dispatch_float(DType type, Body&& body) {
  switch (type) {
    case DType::f32:
      return body(float{});
    case DType::bf16:
      return body(__nv_bfloat16{});
    case DType::f16:
      return body(__half{});
    default:
      throw Error(std::string(name_of(type)) + " is not supported on a GPU: use f32, bf16 or f16");
  }
}

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float to_float(__half x) { return __half2float(x); }
template <typename T>
__device__ inline T from_float(float x) {
  if constexpr (sizeof(T) == 4) return x;
  else if constexpr (std::is_same_v<T, __half>) return __float2half_rn(x);
  else return __float2bfloat16_rn(x);
}

// Storage type, beside products of T, of gradients of modules' outputs and of norms' inputs: f16 lacks their range.
template <typename T>
using GradientOf = std::conditional_t<std::is_same_v<T, __nv_bfloat16>, T, float>;
inline DType gradient_of(DType type) { return type == DType::bf16 ? type : DType::f32; }

// This thread's index, read anew: values computed from it then live only for one phase, not for the whole kernel.
__device__ inline unsigned thread_again() {
  unsigned thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

// Neighbouring elements, aligned for accesses of up to 16 bytes.
template <int count, typename T>
struct alignas(std::min<std::size_t>(count * sizeof(T), 16)) Neighbours {
  T at[count];
};
template <typename T>
using Eight = Neighbours<8, T>;
template <typename T>
__device__ inline Eight<T> load_eight(const T* p) {
  return *reinterpret_cast<const Eight<T>*>(p);
}
template <typename T>
__device__ inline void read_eight(float (&to)[8], const T* from) {
  const Eight<T> x = load_eight(from);
#pragma unroll
  for (int e = 0; e < 8; ++e) to[e] = to_float(x.at[e]);
}
template <typename T>
__device__ inline void write_eight(T* to, const float (&from)[8]) {
  Eight<T> x;
#pragma unroll
  for (int e = 0; e < 8; ++e) x.at[e] = from_float<T>(from[e]);
  *reinterpret_cast<Eight<T>*>(to) = x;
}
// A row for rms_normalise_row.
template <typename T>
struct RowAt {
  const T* row;
  __device__ Eight<T> operator()(int i) const { return load_eight(row + i); }
};
template <typename T>
__device__ inline float4 load_four(const T* p) {
  const auto x = *reinterpret_cast<const Neighbours<4, T>*>(p);
  return {to_float(x.at[0]), to_float(x.at[1]), to_float(x.at[2]), to_float(x.at[3])};
}
template <typename T>
__device__ inline void store_four(T* p, float4 x) {
  *reinterpret_cast<Neighbours<4, T>*>(p) = {{from_float<T>(x.x), from_float<T>(x.y), from_float<T>(x.z), from_float<T>(x.w)}};
}

// Two 16-bit numbers in a tensor core's layout, packed by one instruction.
template <typename T>
__device__ inline std::uint32_t packed(float x, float y) {
  if constexpr (std::is_same_v<T, __half>) {
    const __half2 pair = __floats2half2_rn(x, y);
    return reinterpret_cast<const std::uint32_t&>(pair);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(x, y);
    return reinterpret_cast<const std::uint32_t&>(pair);
  }
}
template <typename T>
__device__ inline float2 unpacked(const std::uint32_t& pair) {
  return {to_float(reinterpret_cast<const T*>(&pair)[0]), to_float(reinterpret_cast<const T*>(&pair)[1])};
}

// Two neighbouring elements; load_pair must not read memory that the kernel writes.
template <typename T>
__device__ inline float2 load_pair(const T* p) {
  if constexpr (sizeof(T) == 4) return __ldg(reinterpret_cast<const float2*>(p));
  else return unpacked<T>(__ldg(reinterpret_cast<const std::uint32_t*>(p)));
}
template <typename T>
__device__ inline void store_pair(T* p, float x, float y) {
  if constexpr (sizeof(T) == 4) *reinterpret_cast<float2*>(p) = {x, y};
  else *reinterpret_cast<std::uint32_t*>(p) = packed<T>(x, y);
}

// Sum over a warp in a fixed order; every lane receives it.
template <typename T>
__device__ inline T warp_sum(T x) {
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, step);
  return x;
}

// 32 sums over a warp at once, in a fixed order: lane l receives the sum of values[l]. Takes 31 exchanges; one sum after another
// would take 160.
template <typename T>
__device__ inline T warp_sums(T (&values)[32]) {
#pragma unroll
  for (int level = 0; level < 5; ++level) {
    const int half = 16 >> level;
    const bool upper = (threadIdx.x >> (4 - level) & 1) != 0;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      if (i >= half) break;
      const T other = __shfl_xor_sync(0xFFFFFFFFu, upper ? values[i] : values[i + half], half);
      values[i] = (upper ? values[i + half] : values[i]) + other;
    }
  }
  return values[0];
}

// Sum over a block of kThreads (whole warps) in a fixed order; every thread receives it. Calls may follow each other directly.
template <int kThreads, typename T>
__device__ inline T block_sum(T x) {
  static_assert(kThreads % 32 == 0 && kThreads <= 1024);
  __shared__ T sums[kThreads / 32];
  x = warp_sum(x);
  __syncthreads();
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
  __syncthreads();
  T sum = sums[0];
  for (int i = 1; i < kThreads / 32; ++i) sum += sums[i];
  return sum;
}

// Root-mean-square norm (rms_norm.h) of one row on a block of kThreads: width a multiple of 8, rows aligned to 16 bytes. x(i) gives
// the row's elements i ... i+7, as Eight<In>.
template <int kThreads, typename Row, typename Out>
__device__ inline void rms_normalise_row(const Row& x, const float* gain, Out* out, float* inverse_rms, std::int64_t width,
                                         float epsilon) {
  using In = std::remove_reference_t<decltype(x(0).at[0])>;
  constexpr int kHeld = 4,
                kAll = 8 * kThreads;  // kHeld: vectors that a thread keeps in registers; the rest of longer rows is read twice
  Eight<In> held[kHeld];
  float sum = 0;
  const auto add = [&](const Eight<In>& v) {
#pragma unroll
    for (int e = 0; e < 8; ++e) sum += to_float(v.at[e]) * to_float(v.at[e]);
  };
  const auto place = [](int k) { return kAll * k + 8 * static_cast<int>(threadIdx.x); };
#pragma unroll
  for (int k = 0; k < kHeld; ++k) {
    if (k * kAll >= width) break;
    if (place(k) < width) held[k] = x(place(k));
  }
#pragma unroll
  for (int k = 0; k < kHeld; ++k) {
    if (k * kAll >= width) break;
    if (place(k) < width) add(held[k]);
  }
  for (int k = kHeld; place(k) < width; ++k) add(x(place(k)));
  const float inverse = 1.0f / sqrtf(block_sum<kThreads>(sum) / static_cast<float>(width) + epsilon);
  const auto give = [&](int i, const Eight<In>& v) {
    const Eight<float> g = load_eight(gain + i);
    Eight<Out> y;
#pragma unroll
    for (int e = 0; e < 8; ++e) y.at[e] = from_float<Out>(to_float(v.at[e]) * inverse * g.at[e]);
    *reinterpret_cast<Eight<Out>*>(out + i) = y;
  };
#pragma unroll
  for (int k = 0; k < kHeld; ++k) {
    if (k * kAll >= width) break;
    if (place(k) < width) give(place(k), held[k]);
  }
  for (int k = kHeld; place(k) < width; ++k) give(place(k), x(place(k)));
  if (threadIdx.x == 0) *inverse_rms = inverse;
}

// Calls body(integral constant) with the threads per block for one such row: each thread has up to four vectors of eight, so that
// few threads idle and as many blocks as possible load at once.
template <typename Body>
void dispatch_row_threads(std::int64_t width, Body&& body) {
  if (width <= 4 * 8 * 32) body(std::integral_constant<int, 32>{});
  else if (width <= 4 * 8 * 64) body(std::integral_constant<int, 64>{});
  else if (width <= 4 * 8 * 128) body(std::integral_constant<int, 128>{});
  else body(std::integral_constant<int, 256>{});
}

// The Philox draw of random.h, on the device.
__device__ inline uint4 philox_words(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  std::uint32_t c0 = static_cast<std::uint32_t>(index), c1 = static_cast<std::uint32_t>(index >> 32),
                c2 = static_cast<std::uint32_t>(stream), c3 = static_cast<std::uint32_t>(stream >> 32);
  std::uint32_t k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t first = std::uint64_t{0xD2511F53u} * c0, second = std::uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<std::uint32_t>(second >> 32) ^ c1 ^ k0;
    c1 = static_cast<std::uint32_t>(second);
    c2 = static_cast<std::uint32_t>(first >> 32) ^ c3 ^ k1;
    c3 = static_cast<std::uint32_t>(first);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

}  // namespace neurogen
