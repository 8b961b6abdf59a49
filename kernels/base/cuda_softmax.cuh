// Softmax statistics of a row whose logits pass by once: a running maximum and sum (Milakov and Gimelshein 2018, arXiv:1805.02867).
#pragma once
#include "kernels/base/cuda_kernel.cuh"
#include "kernels/base/cuda_math.cuh"

namespace neurogen {

// The largest logit of a row and the sum of exp(logit - largest).
struct RowStatistics {
  float largest, sum;
};

// A thread's share of a row.
struct RunningSoftmax {
  float largest = -INFINITY, sum = 0.0f;

  __device__ void add(float4 x) {
    const float top = fmaxf(largest, fmaxf(fmaxf(x.x, x.y), fmaxf(x.z, x.w)));
    sum = sum * exp_of(largest - top) + (exp_of(x.x - top) + exp_of(x.y - top)) + (exp_of(x.z - top) + exp_of(x.w - top));
    largest = top;
  }
  // Of a block's whole row, on thread 0. `before`: the largest of earlier tiles.
  template <int kThreads>
  __device__ RowStatistics of_row(float before) const {
    __shared__ float warps[kThreads / 32];
    float top = largest;
    for (int step = 16; step > 0; step /= 2) top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFu, top, step));
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = top;
    __syncthreads();
    top = before;
    for (int w = 0; w < kThreads / 32; ++w) top = fmaxf(top, warps[w]);
    return {top, block_sum<kThreads>(sum * expf(largest - top))};
  }
};

// The statistics of a row in tiles, which a block takes in turn.
struct TiledStatistics {
  float *maximum, *sum;  // [N]
  bool first;            // of the tiles

  __device__ float before(std::int64_t n) const { return first ? -INFINITY : maximum[n]; }
  __device__ void store(std::int64_t n, RowStatistics tile) const {
    const float old_sum = first ? 0.0f : sum[n];
    sum[n] = (old_sum == 0.0f ? 0.0f : old_sum * expf(maximum[n] - tile.largest)) + tile.sum;
    maximum[n] = tile.largest;
  }
};

}  // namespace neurogen
