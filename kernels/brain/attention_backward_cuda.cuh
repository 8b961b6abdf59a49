// Parts of the hippocampus' backward pass (attention_backward_cuda.cu): its operands, and the way from rotated queries, keys and
// mixed values back to their currents.
#pragma once
#include "kernels/brain/attention_tile_cuda.cuh"

namespace neurogen {

template <typename T>
struct Windows {
  const T* currents;  // [G, N, 32R]
  std::int64_t group_stride;
  int columns;
  const int* first;  // [N]
  int window;
  const GradientOf<T>* d_out;  // [N, 32G]
  std::int64_t d_out_stride;
  const float *inverse_rms, *dot, *gain;
  T* d_currents;  // [G, N, 32R]
  std::int64_t d_group_stride;
  T *q, *d_mixed;  // [N, 32G]: rotated queries, and the mixed values' gradients
  float2* notes;   // [heads, N]: log2 sum, softmax term
  float* sums;     // [windows, tiles, 32G]

  // Of this block: blockIdx is (head, window, tile).
  static __device__ int head() { return static_cast<int>(blockIdx.x); }
  __device__ std::int64_t token() const { return static_cast<std::int64_t>(blockIdx.y) * window; }
  __device__ HeadCurrents<const T> head_currents() const { return {currents, group_stride, columns, head(), token()}; }
  __device__ HeadCurrents<T> d_head_currents() const { return {d_currents, d_group_stride, columns, head(), token()}; }
  __device__ T* at(T* rows, int t, int d) const { return rows + (token() + t) * (gridDim.x * kDims) + head() * kDims + d; }
  __device__ float2* head_notes() const { return notes + head() * (static_cast<std::int64_t>(gridDim.y) * window) + token(); }
};

// A warp's accumulators stored by rows, to be read as whole vectors of outputs: in its part of the tiles, once they are used up.
template <typename T>
struct Strip {
  static constexpr int kPitch = kDims + 8;
  using Room = float[16 * kPitch];
  float* room;

  explicit __device__ Strip(HeadTile<T> (&tiles)[2]) : room(reinterpret_cast<Room*>(tiles)[threadIdx.x / 32]) {
    static_assert(sizeof(tiles) >= kTile<T> / 16 * sizeof(Room));
  }
  __device__ void put(const Mixed& x) const {
    __syncwarp();
#pragma unroll
    for (int j = 0; j < kDims / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; e += 2)
        *reinterpret_cast<float2*>(room + row_of(0, e) * kPitch + column_of(j)) = {x[0][j][e], x[0][j][e + 1]};
    __syncwarp();
  }
  __device__ Outputs<T> at(int row, int d) const { return floats_at<T>(room + row * kPitch + d); }
};

// From the gradients d of rotated queries or keys x, 1 / kScoreScale times too large, to those of their currents: through the norm
// while both are rotated, then rotated back row by row. `inverse`: the norm's factors for this warp's rows.
template <typename T>
__device__ void turned_backward(Mixed& d, const Left<T, kDims>& x, const float* inverse, const Strip<T>& strip,
                                const Angles<T>& angles, Role role, int begin, int window, const HeadCurrents<T>& d_currents) {
#pragma unroll
  for (int e = 0; e < 4; e += 2) {
    float dot = 0.0f;
#pragma unroll
    for (int j = 0; j < kDims / 8; ++j) dot += d[0][j][e] * x.at(j, e).x + d[0][j][e + 1] * x.at(j, e).y;
    const float scale = inverse[row_of(0, e)] * kScoreScale, along = row_sum(dot) * scale / kDims;
#pragma unroll
    for (int j = 0; j < kDims / 8; ++j) {
      d[0][j][e] = d[0][j][e] * scale - x.at(j, e).x * along;
      d[0][j][e + 1] = d[0][j][e + 1] * scale - x.at(j, e).y * along;
    }
  }
  strip.put(d);
  RowLane<T>::each(begin, window, [&](int row, int t, bool present, int output) {
    Outputs<T> d_x = strip.at(row, output);
    const auto turn = angles.of((begin + row) % kTile<T>, output);
#pragma unroll
    for (int i = 0; i < kVector<T>; i += 2) {
      const float a = d_x.at[i], b = d_x.at[i + 1];
      const float2 angle = turn.at[i / 2];
      d_x.at[i] = a * angle.x + b * angle.y, d_x.at[i + 1] = b * angle.x - a * angle.y;
    }
    if (present) d_x.store(d_currents.at(t, role, output));
  });
}

template <typename T>
__device__ void values_backward(const Strip<T>& strip, const HeadCurrents<const T>& currents, int begin, int window,
                                const HeadCurrents<T>& d_currents) {
  struct Read {
    uint4 value, strength;
  };
  const auto ahead = [&](int t, int d) {
    return currents.has_strength() ? Read{currents.vector(t, kValue, d), currents.vector(t, kStrength, d)} : Read{};
  };
  RowLane<T>::template each<4>(begin, window, ahead, [&](int row, int t, bool present, int d, const Read& read) {
    if (!present) return;
    Outputs<T> d_v = strip.at(row, d);
    if (currents.has_strength()) {
      const Outputs<T> v = Outputs<T>::of(read.value);
      Outputs<T> s = Outputs<T>::of(read.strength);
#pragma unroll
      for (int i = 0; i < kVector<T>; ++i) {
        const float strength = sigmoid_of(s.at[i]);
        d_v.at[i] *= 2.0f * strength;
        s.at[i] = d_v.at[i] * v.at[i] * (1.0f - strength);
      }
      s.store(d_currents.at(t, kStrength, d));
    }
    d_v.store(d_currents.at(t, kValue, d));
  });
}

}  // namespace neurogen
