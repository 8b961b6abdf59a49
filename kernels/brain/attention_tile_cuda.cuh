// The attention of a tile of queries, for the forward pass and its repetition in the backward pass.
#pragma once
#include "kernels/brain/attention_cuda.cuh"

namespace neurogen {

using Mixed = Accumulators<1, kDims / 8>;
template <int step>
using Scores = Accumulators<1, step / 8>;

template <typename T>
struct AttendMemory {
  HeadTile<T> tiles[2], queries;  // tiles: keys and values
  typename Left<T, kStep>::Room weights[kTile<T> / 16];
  Angles<T> angles;

  __device__ T* keys() { return tiles[0]; }
  __device__ T* values() { return tiles[1]; }
  __device__ T* queries_of(int warp) { return queries + warp * 16 * kHeadPitch<T>; }
};

// Loads the keys and values of a tile, replacing the previous one's.
template <typename T>
__device__ inline void load_keys(AttendMemory<T>& memory, const HeadCurrents<const T>& currents, int begin, int window) {
  using Load = TileLoad<T, kTileThreads<T>, kTile<T>>;
  memory.angles.template move<kTileThreads<T>>(begin);
  __syncthreads();
  Load::turned(memory.keys(), memory.angles, currents, kKey, begin, window);
  Load::values(memory.values(), currents, begin, window);
  __syncthreads();
}

// mixed = softmax(q k^T / 8) v for this warp's queries, and each row's sum of exponentials. The keys are those of tiles `oldest` to
// `newest`; the latter stays in memory.
template <typename T>
__device__ inline void attend(AttendMemory<T>& memory, const HeadCurrents<const T>& currents, int oldest, int newest, int window,
                              const Queries& queries, const Left<T, kDims>& q, Mixed& mixed, float (&sum)[2]) {
  Left<T, kStep> weights(memory.weights[threadIdx.x / 32]);
  clear_accumulators<1, kDims / 8>(mixed);
  sum[0] = sum[1] = 0.0f;
  for (int begin = oldest; begin <= newest; begin += kTile<T>) {
    load_keys(memory, currents, begin, window);
    queries.steps<kTile<T>, kStep>(begin, [&](int row, bool whole) {
      Scores<kStep> scores;
      clear_accumulators<1, kStep / 8>(scores);
      q.template multiply<Along::sum>(scores, memory.keys() + row * kHeadPitch<T>, kHeadPitch<T>);
#pragma unroll
      for (int j = 0; j < kStep / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          float& score = scores[0][j][e];
          score = whole || queries.sees(e / 2, begin + row + column_of(j) + e % 2) ? exp2_of(score * kExponent) : 0.0f;
          sum[e / 2] += score;
        }
      weights.round(scores);
      weights.template multiply<Along::across>(mixed, memory.values() + row * kHeadPitch<T>, kHeadPitch<T>);
    });
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    sum[half] = row_sum(sum[half]);
    const float inverse = reciprocal(sum[half]);
#pragma unroll
    for (int j = 0; j < kDims / 8; ++j) {
      mixed[0][j][2 * half] *= inverse;
      mixed[0][j][2 * half + 1] *= inverse;
    }
  }
}

}  // namespace neurogen
