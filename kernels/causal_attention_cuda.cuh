// Shared by the CUDA kernels of causal attention: tiles of heads in shared memory. A warp takes 16 queries or keys of one head and
// window; their counterparts pass through shared memory, a tile of kTile tokens at a time. D: a head's width, rounded up to 64 or
// 128; columns beyond the width are zeros.
#pragma once
#include "kernels/base/cuda_attention.cuh"
#include "kernels/base/cuda_math.cuh"
#include "kernels/causal_attention.h"

namespace neurogen {

template <typename T, int D>
inline constexpr int kOwnRows = D == 64 && kHeld<T> ? 64 : 32;  // queries or keys of a block
template <typename T, int D>
inline constexpr int kAttentionThreads = 2 * kOwnRows<T, D>;
template <typename T, int D>
inline constexpr int kCounterparts = kHeld<T> ? (D == 64 ? 64 : 32) : 16;  // tokens of a tile: two stages fit into an old card
template <typename T, int D, int rows>
using HeadRows = T[rows * pitch_of<T>(D)];
inline constexpr int kStages = 2;

// Starts loading tokens `begin` ... of one head; `head` points at its first column of the window's first token.
template <int D, int rows, typename T>
__device__ inline void load_rows(T* tile, const T* head, std::int64_t stride, int begin, int window, int width) {
  constexpr int kVectors = D / kVector<T>, kThreads = kAttentionThreads<T, D>;
  static_assert(rows * kVectors % kThreads == 0);
  const int column = static_cast<int>(threadIdx.x) % kVectors * kVector<T>;
#pragma unroll
  for (int i = 0; i < rows * kVectors / kThreads; ++i) {
    const int row = static_cast<int>(threadIdx.x) / kVectors + i * (kThreads / kVectors), t = min(begin + row, window - 1);
    copy_behind(tile + row * pitch_of<T>(D) + column, head + t * stride + (column < width ? column : 0),
                begin + row < window && column < width);
  }
}

// Stores a warp's rows from token `begin` on, times `scale`.
template <int D, typename T>
__device__ inline void store_rows(T* head, std::int64_t stride, const Accumulators<1, D / 8>& rows, const float (&scale)[2],
                                  int begin, int window, int width) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int t = begin + row_of(0, 2 * half);
    T* const row = head + min(t, window - 1) * stride;
#pragma unroll
    for (int j = 0; j < D / 8; j += 2) {
      const auto pair = [&](int at) {
        return float2{rows[0][at][2 * half] * scale[half], rows[0][at][2 * half + 1] * scale[half]};
      };
      store_sixteen(row, j, pair(j), pair(j + 1), t < window && 8 * j < width);
    }
  }
}

// Calls body(T{}, integral constant D).
template <typename Body>
void dispatch_heads(DType type, std::int64_t width, Body&& body) {
  require_operands(width % 16 == 0 && width <= 128, "causal attention: a GPU takes heads of a multiple of 16, at most 128");
  dispatch_float(type, [&](auto zero) {
    if (width <= 64) body(zero, std::integral_constant<int, 64>{});
    else body(zero, std::integral_constant<int, 128>{});
  });
}

inline void require_attention(CudaDevice& device, HeadCounts heads, std::int64_t window, std::initializer_list<TensorView> matrices,
                              std::initializer_list<TensorView> statistics) {
  const DType type = matrices.begin()->dtype;
  require_products(device, type);
  require_operands(heads.keys > 0 && heads.queries % heads.keys == 0 && window > 0 && (*matrices.begin())[0] % window == 0,
                   "causal attention: whole windows, and as many queries for every key, are needed");
  for (const TensorView& m : matrices)
    require_operands(m.dtype == type && m.row_stride * static_cast<std::int64_t>(size_of(type)) % 16 == 0,
                     "causal attention: matrices must have one type, and rows of a multiple of 16 bytes");
  for (const TensorView& s : statistics)
    require_operands(!s || (s.dtype == DType::f32 && s.contiguous()), "causal attention: statistics must be f32");
}

}  // namespace neurogen
