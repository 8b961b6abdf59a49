// Rows of matrices by groups of threads, and sums over the rows of a batch (kernels/row_parts.h).
#pragma once
#include <initializer_list>

#include "kernels/base/cuda_kernel.cuh"
#include "kernels/base/row_parts.h"

namespace neurogen {

inline constexpr int kRowThreads = 256;  // of a block

// kLanes threads take a row together, each kVectors vectors of eight elements, so that they can hold it in registers. Blocks have
// kRowThreads threads, all of which must call sum().
template <int lanes, int vectors>
struct RowGroup {
  static constexpr int kLanes = lanes, kVectors = vectors, kGroups = kRowThreads / lanes;
  static __device__ int lane() { return static_cast<int>(threadIdx.x) % kLanes; }
  static __device__ int group() { return static_cast<int>(threadIdx.x) / kLanes; }

  // Over the group's threads, in a fixed order; each receives it.
  static __device__ float sum(float x) {
    x = warp_sum(x);
    if constexpr (kLanes > 32) {
      __shared__ float sums[kRowThreads / 32];
      __syncthreads();
      if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
      __syncthreads();
      x = 0;
      for (int i = 0; i < kLanes / 32; ++i) x += sums[group() * (kLanes / 32) + i];
    }
    return x;
  }
  // Calls body(k, column) for this thread's vectors; a width of 0 has none.
  template <typename Body>
  static __device__ void each(int width, Body&& body) {
#pragma unroll
    for (int k = 0; k < kVectors; ++k)
      if (const int column = 8 * (k * kLanes + lane()); column < width) body(k, column);
  }
};

// Calls body(RowGroup) with one that holds rows of this width.
template <typename Body>
void dispatch_row_group(std::int64_t width, Body&& body) {
  require_operands(width % 8 == 0 && width <= 8192, "a GPU takes rows of at most 8,192 elements, a multiple of 8");
  if (width <= 512) body(RowGroup<32, 2>{});
  else if (width <= 1024) body(RowGroup<64, 2>{});
  else if (width <= 4096) body(RowGroup<256, 2>{});
  else body(RowGroup<256, 4>{});
}

// Column c of a part's sums: over the groups of a block, each of which has its own in `mine`. `sums`: of this part.
template <typename Group>
__device__ inline void add_groups(const float (&mine)[Group::kVectors][8], float* sums, int width) {
  __shared__ float all[Group::kGroups][8 * Group::kLanes * Group::kVectors];
  __syncthreads();
  Group::each(width, [&](int k, int column) { write_eight(all[Group::group()] + column, mine[k]); });
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < width; c += kRowThreads) {
    float sum = all[0][c];
    for (int g = 1; g < Group::kGroups; ++g) sum += all[g][c];
    sums[c] = sum;
  }
}

// sums[part, c] = sum of x[row, c] over the part's rows. `x`: [N, C], `sums`: [row_parts(N), >= C].
void sum_row_parts(CudaDevice& device, const char* name, const TensorView& x, const TensorView& sums);

// out[c] = sum over the parts of sums[part, begin + c]; an empty `out` is skipped.
struct RowTotal {
  std::int64_t begin;
  TensorView out;  // [C] f32
};
void add_row_parts(CudaDevice& device, const char* name, const TensorView& sums, std::initializer_list<RowTotal> totals);

}  // namespace neurogen
