// Shared by the hippocampus' CUDA kernels: a head's currents, queries and keys as attention uses them, and the attention of a tile
// of queries (Dao et al. 2022, arXiv:2205.14135: tile by tile, so that no score leaves the chip).
//
// A warp takes 16 queries or keys of one head and window; their counterparts pass through shared memory, a tile of kTile tokens at
// a time. Queries and keys are normalised, so no score exceeds 8 and the softmax needs no maximum: 2^(score / 8) is safe in every
// type. Between two 16-bit products, weights stay in registers.
#pragma once
#include "kernels/base/cuda_attention.cuh"
#include "kernels/base/cuda_math.cuh"
#include "kernels/brain/attention.h"
#include "kernels/brain/synapses.h"
#include "kernels/rms_norm.h"

namespace neurogen {

enum Role { kQuery, kKey, kValue, kOpen, kStrength };

inline constexpr int kDims = static_cast<int>(kHead);
template <typename T>  // tokens: three tiles fit into an old card's shared memory
inline constexpr int kTile = static_cast<int>(attention_tile(kHeld<T> ? DType::bf16 : DType::f32));
template <typename T>
inline constexpr int kTileThreads = 2 * kTile<T>;
// Least number of such blocks that a multiprocessor holds.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <typename T>
inline constexpr int kTileBlocks = 1;
#else
template <typename T>
inline constexpr int kTileBlocks = kHeld<T> ? 2 : 1;
#endif
inline constexpr int kStep = 32;  // tokens of a tile whose scores a warp holds at a time
template <typename T>
inline constexpr int kHeadPitch = pitch_of<T>(kDims);
template <typename T>
using HeadTile = T[kTile<T> * kHeadPitch<T>];  // [tokens, outputs]

// Scores are computed as powers of two: e^(q k / 8) = 2^(q k kExponent).
inline constexpr float kScoreScale = 0.125f, kExponent = 0.125f * 1.44269504f;

// The angle by which each pair rotates from one position to the next, in half turns; float64, since a stream's position may be
// large.
using Turns = double[kDims / 2];
__device__ inline void make_turns(Turns& turns) {
  if (threadIdx.x < kDims / 2)
    turns[threadIdx.x] =
        exp2(-static_cast<double>(threadIdx.x) * (13.287712379549449 / 32)) * 0.31830988618379067;  // log2 10000, 1 / pi
}
__device__ inline float2 cos_sin(double turn, std::int64_t position) {
  const double half_turns = static_cast<double>(position) * turn;
  float2 result;
  sincospif(static_cast<float>(half_turns - 2.0 * rint(0.5 * half_turns)), &result.y, &result.x);
  return result;
}

// Neighbouring outputs in one 16-byte access.
template <typename T>
struct Outputs {
  alignas(16) float at[kVector<T>];

  static __device__ Outputs of(uint4 vector) {  // a copy: a reference would be read element by element
    Outputs x;
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) x.at[i] = to_float(reinterpret_cast<const T*>(&vector)[i]);
    return x;
  }
  __device__ void store(T* to) const {
    if constexpr (sizeof(T) == 4) *reinterpret_cast<float4*>(to) = {at[0], at[1], at[2], at[3]};
    else
      *reinterpret_cast<uint4*>(to) = {packed<T>(at[0], at[1]), packed<T>(at[2], at[3]), packed<T>(at[4], at[5]),
                                       packed<T>(at[6], at[7])};
  }
};

// Reads as many elements of an f32 or T tensor as a vector of T holds.
template <typename T, typename From>
__device__ inline Outputs<T> floats_at(const From* p) {
  if constexpr (sizeof(From) == 2) {
    return Outputs<T>::of(*reinterpret_cast<const uint4*>(p));
  } else {
    Outputs<T> x;
#pragma unroll
    for (int i = 0; i < kVector<T>; i += 4) *reinterpret_cast<float4*>(x.at + i) = *reinterpret_cast<const float4*>(p + i);
    return x;
  }
}

// The currents of one head, or their gradients, starting at a window's first token; they come from two column groups.
template <typename Real>
struct HeadCurrents {
  using T = std::remove_const_t<Real>;
  Real* data;
  std::int64_t group_stride;
  int columns;

  __device__ HeadCurrents(Real* currents, std::int64_t group_stride_, int columns_, int head, std::int64_t token)
      : data(currents + 2 * head * group_stride_ + token * columns_), group_stride(group_stride_), columns(columns_) {}
  __device__ bool has_strength() const { return columns == 5 * static_cast<int>(kGroup); }
  // Pointer to output d of the head and those that follow in the same half.
  __device__ Real* at(int t, int role, int d) const {
    return data + (d < 32 ? 0 : group_stride) + t * columns + role * 32 + d % 32;
  }
  __device__ float2 pair(int t, int role, int d) const { return load_pair(at(t, role, d)); }
  __device__ uint4 vector(int t, int role, int d) const { return __ldg(reinterpret_cast<const uint4*>(at(t, role, d))); }
};

// 1 / rms over the 64 outputs of a head.
__device__ inline float inverse_rms_of(float squares) { return rsqrtf(squares / kDims + static_cast<float>(kRmsEpsilon)); }

// A lane takes a vector of outputs in every kRows-th row of its warp; sum() adds up a row over its lanes.
template <typename T>
struct RowLane {
  static constexpr int kLanes = kDims / kVector<T>, kRows = 32 / kLanes;
  static __device__ int output() { return static_cast<int>(thread_again()) % kLanes * kVector<T>; }
  static __device__ float sum(float x) {
#pragma unroll
    for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, lanes);
    return x;
  }
  // Calls body(row, token, whether it is in the window, output) for the 16 rows of a warp, the first of which is token `begin`.
  template <typename Body>
  static __device__ void each(int begin, int window, Body&& body) {
    const int d = output(), first = static_cast<int>(thread_again()) % 32 / kLanes;
#pragma unroll
    for (int step = 0; step < 16; step += kRows)
      body(first + step, min(begin + first + step, window - 1), begin + first + step < window, d);
  }
  // The same, also passing body the result of ahead(token, output), read for `rows` rows before the first is processed.
  template <int rows, typename Ahead, typename Body>
  static __device__ void each(int begin, int window, Ahead&& ahead, Body&& body) {
    const int d = output(), first = static_cast<int>(thread_again()) % 32 / kLanes;
#pragma unroll
    for (int step = 0; step < 16; step += rows * kRows) {
      decltype(ahead(0, 0)) read[rows];
#pragma unroll
      for (int k = 0; k < rows; ++k) read[k] = ahead(min(begin + first + step + k * kRows, window - 1), d);
#pragma unroll
      for (int k = 0; k < rows; ++k) {
        const int row = first + step + k * kRows;
        body(row, min(begin + row, window - 1), begin + row < window, d, read[k]);
      }
    }
  }
};

// cos and sin of all pairs' angles at a tile's positions: `begin` + p is coarse[p / 16] rotated by fine[p % 16].
template <typename T>
struct Angles {
  alignas(16) float2 fine[16][kDims / 2], coarse[kTile<T> / 16][kDims / 2];
  Turns turns;

  // make() and move() run on the whole block; the caller synchronises.
  template <int threads>
  __device__ void make() {
    make_turns(turns);
    __syncthreads();
    fill<threads, 16>(fine, 0, 1);
  }
  template <int threads>
  __device__ void move(int begin) {
    fill<threads, kTile<T> / 16>(coarse, begin, 16);
  }
  struct Pairs {
    float2 at[kVector<T> / 2];
  };
  __device__ Pairs of(int p, int d) const {  // for outputs d and following
    Pairs result;
#pragma unroll
    for (int i = 0; i < kVector<T> / 2; i += 2) {
      const float4 x = *reinterpret_cast<const float4*>(&coarse[p / 16][d / 2 + i]);
      const float4 y = *reinterpret_cast<const float4*>(&fine[p % 16][d / 2 + i]);
      result.at[i] = {x.x * y.x - x.y * y.y, x.x * y.y + x.y * y.x};
      result.at[i + 1] = {x.z * y.z - x.w * y.w, x.z * y.w + x.w * y.z};
    }
    return result;
  }

 private:
  template <int threads, int rows>
  __device__ void fill(float2 (&table)[rows][kDims / 2], int begin, int apart) {
#pragma unroll 1
    for (int i = static_cast<int>(thread_again()); i < rows * kDims / 2; i += threads)
      table[i / (kDims / 2)][i % (kDims / 2)] = cos_sin(turns[i % (kDims / 2)], begin + i / (kDims / 2) * apart);
  }
};

// Fills `rows` rows of a tile on `threads` threads with queries, keys or values from token `begin` on; zeros beyond the window.
template <typename T, int threads, int rows>
struct TileLoad {
  static constexpr int kRows = threads / RowLane<T>::kLanes, kAtOnce = rows / kRows < 4 ? rows / kRows : 4;

  // Calls body(row, output, first vector, second vector of the same place), loading several at a time.
  template <typename Body>
  static __device__ void each(const HeadCurrents<const T>& currents, Role role, bool second, Role second_role, int begin,
                              int window, Body&& body) {
    const int d = RowLane<T>::output(), first_row = static_cast<int>(thread_again()) / RowLane<T>::kLanes;
#pragma unroll
    for (int i = 0; i < rows / kRows; i += kAtOnce) {
      uint4 x[kAtOnce], y[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const int t = min(begin + first_row + (i + k) * kRows, window - 1);
        x[k] = currents.vector(t, role, d);
        y[k] = second ? currents.vector(t, second_role, d) : uint4{};
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) body(first_row + (i + k) * kRows, d, Outputs<T>::of(x[k]), Outputs<T>::of(y[k]));
    }
  }
  // `angles` belong to the tile that contains row `offset`; also(row, output, inverse rms) receives what else the caller keeps.
  template <typename Also>
  static __device__ void turned(T* tile, const Angles<T>& angles, const HeadCurrents<const T>& currents, Role role, int begin,
                                int window, int offset, Also&& also) {
    each(currents, role, false, role, begin, window, [&](int row, int d, Outputs<T> x, const Outputs<T>&) {
      float squares = 0.0f;
#pragma unroll
      for (float value : x.at) squares += value * value;
      squares = RowLane<T>::sum(squares);
      const float inverse = begin + row < window ? inverse_rms_of(squares) : 0.0f;
      const auto turn = angles.of(offset + row, d);
#pragma unroll
      for (int i = 0; i < kVector<T>; i += 2) {
        const float a = inverse * x.at[i], b = inverse * x.at[i + 1];
        x.at[i] = a * turn.at[i / 2].x - b * turn.at[i / 2].y, x.at[i + 1] = a * turn.at[i / 2].y + b * turn.at[i / 2].x;
      }
      x.store(tile + row * kHeadPitch<T> + d);
      also(row, d, inverse);
    });
  }
  static __device__ void turned(T* tile, const Angles<T>& angles, const HeadCurrents<const T>& currents, Role role, int begin,
                                int window) {
    turned(tile, angles, currents, role, begin, window, 0, [](int, int, float) {});
  }
  static __device__ void values(T* tile, const HeadCurrents<const T>& currents, int begin, int window) {
    const bool strong = currents.has_strength();
    each(currents, kValue, strong, kStrength, begin, window, [&](int row, int d, Outputs<T> v, const Outputs<T>& s) {
      const float on = begin + row < window ? 1.0f : 0.0f;
#pragma unroll
      for (int i = 0; i < kVector<T>; ++i) v.at[i] *= strong ? 2.0f * on * sigmoid_of(s.at[i]) : on;
      v.store(tile + row * kHeadPitch<T> + d);
    });
  }
};

inline void require_heads(const TensorView& currents, std::int64_t window) {
  require_operands(currents[0] % 2 == 0, "attention: the number of column groups must be even");
  require_operands(currents[2] == 4 * kGroup || currents[2] == 5 * kGroup, "attention: an output must have 4 or 5 neurons");
  require_operands(window > 0 && currents[1] % window == 0, "attention: the tokens must be whole windows");
}

}  // namespace neurogen
