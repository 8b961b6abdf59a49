// Shared by the attention kernels, whose warps take 16 queries or keys each: a product's left side in registers, the keys that a
// warp's queries see, and rows of accumulators.
#pragma once
#include "kernels/base/cuda_tile.cuh"

namespace neurogen {

template <typename T>
inline constexpr bool kHeld = sizeof(T) == 2;  // whether registers hold a product's left side

// The left side of a product, a warp's 16 rows by K: in registers, or in shared memory.
template <typename T, int K, bool held = kHeld<T>>
struct Left {
  using Room = T[kHeld<T> ? kVector<T> : 16 * pitch_of<T>(K)];  // a warp's shared memory for another product's result
  std::uint32_t fragments[held ? K / 16 : 1][1][4];
  static constexpr int pitch = pitch_of<T>(K);
  T* rows;

  explicit __device__ Left(T* rows_) : rows(rows_) {}
  // Loads the rows into registers, if they are held there.
  __device__ void read() {
    if constexpr (held)
#pragma unroll
      for (int k = 0; k < K / 16; ++k) load_matrices<false>(fragments[k][0], row_of_a<Along::sum>(rows, pitch) + 16 * k);
  }
  // Accumulators of two neighbouring tiles have the layout of a left side's 16 columns.
  __device__ void round(const Accumulators<1, K / 8>& x) {
    if constexpr (held) {
#pragma unroll
      for (int k = 0; k < K / 16; ++k)
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float* const pair = x[0][2 * k + i / 2] + i % 2 * 2;
          fragments[k][0][i] = packed<T>(pair[0], pair[1]);
        }
    } else {
      __syncwarp();
#pragma unroll
      for (int j = 0; j < K / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; e += 2) store_pair(rows + row_of(0, e) * pitch + column_of(j), x[0][j][e], x[0][j][e + 1]);
      __syncwarp();
    }
  }
  // The two values at elements e and e + 1 of the accumulators' tile j.
  __device__ float2 at(int j, int e) const {
    if constexpr (held) return unpacked<T>(fragments[j / 2][0][j % 2 * 2 + e / 2]);
    else return {to_float(rows[row_of(0, e) * pitch + column_of(j)]), to_float(rows[row_of(0, e) * pitch + column_of(j) + 1])};
  }
  template <Along along, int N>
  __device__ void multiply(Accumulators<1, N>& acc, const T* b, int b_pitch) const {
    if constexpr (held) {
      const T* const lane = row_of_b<along>(b, b_pitch);
#pragma unroll
      for (int k = 0; k < K / 16; ++k)
        multiply_fragments<along>(acc, fragments[k], lane + (along == Along::sum ? 16 * k : 16 * k * b_pitch), b_pitch);
    } else {
      neurogen::multiply<T, 1, N, K, Along::sum, along>(acc, rows, pitch, b, b_pitch);
    }
  }
};

// Sum, and maximum, over the four lanes that share a row of accumulators.
__device__ inline float row_sum(float x) {
  x += __shfl_xor_sync(0xFFFFFFFFu, x, 1);
  return x + __shfl_xor_sync(0xFFFFFFFFu, x, 2);
}
__device__ inline float row_maximum(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 2));
}

// A warp's 16 queries from `begin` on, and the keys that they see. Document starts never decrease.
struct Queries {
  int begin, last, oldest_of_first, oldest_of_last;  // last: -1 if all are beyond the window
  int token[2], oldest[2];                           // this thread's two queries

  __device__ Queries(const int* first, int begin_, int window)
      : begin(begin_),
        last(begin < window ? min(begin + 15, window - 1) : -1),
        oldest_of_first(first[min(begin, window - 1)]),
        oldest_of_last(first[max(last, 0)]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      token[half] = begin + row_of(0, 2 * half);
      oldest[half] = token[half] < window ? first[token[half]] : window;  // beyond the window: sees nothing
    }
  }
  __device__ bool sees(int half, int key) const { return key >= oldest[half] && key <= token[half]; }
  // Calls body(step's first row in the tile, whether all queries see all of its keys) for steps with a visible key.
  template <int tile, int step, typename Body>
  __device__ void steps(int tile_begin, Body&& body) const {
#pragma unroll 1
    for (int row = 0; row < tile; row += step) {
      const int key = tile_begin + row;
      if (key <= last && key + step > oldest_of_first) body(row, key + step - 1 <= begin && key >= oldest_of_last);
    }
  }
};

// This lane's pairs of accumulators of tiles j and j + 1, as part of a row's 16 columns, which a quad writes as whole sectors: of
// 16-bit columns each lane writes four of one tile, two of them from its neighbour.
template <typename Out>
__device__ void store_sixteen(Out* row, int j, float2 low, float2 high, bool there) {
  if constexpr (sizeof(Out) == 2) {
    const bool upper = threadIdx.x % 2 != 0;
    const std::uint32_t first = packed<Out>(low.x, low.y), second = packed<Out>(high.x, high.y),
                        other = __shfl_xor_sync(0xFFFFFFFFu, upper ? first : second, 1);
    if (there)
      *reinterpret_cast<uint2*>(row + (upper ? column_of(j + 1) - 2 : column_of(j))) =
          upper ? uint2{other, second} : uint2{first, other};
  } else if (there) {
    store_pair(row + column_of(j), low.x, low.y);
    store_pair(row + column_of(j + 1), high.x, high.y);
  }
}

inline void require_products(CudaDevice& device, DType type) {
  require_operands(type != DType::bf16 || device.capability() >= 80, "attention: bf16 needs a GPU of compute capability 8.0");
}

}  // namespace neurogen
