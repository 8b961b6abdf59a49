// What the hippocampus' CUDA kernels share: a head's currents, queries and keys as attention sees them, and the attention of
// a tile of queries (Dao et al. 2022, arXiv:2205.14135: tile by tile with a running softmax, so that no score leaves the
// chip).
//
// A block works on tiles of kTile tokens of one head and window, 16 queries a warp.
#pragma once
#include "kernels/attention.h"
#include "kernels/cuda_math.cuh"
#include "kernels/cuda_tile.cuh"
#include "kernels/rms_norm.h"
#include "kernels/synapses.h"

namespace neurogen {

enum Role { kQuery, kKey, kValue, kOpen, kStrength };

inline constexpr int kDims = static_cast<int>(kHead);
template <typename T>
inline constexpr int kTile = sizeof(T) == 2 ? 64 : 32;  // tokens: six tiles fit into an old card's shared memory
template <typename T>
inline constexpr int kTileThreads = 2 * kTile<T>;
// Blocks that a multiprocessor holds at least (0: as the compiler likes), forward and backward: more spill registers before Hopper.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
inline constexpr bool kManyBlocks = true;
#else
inline constexpr bool kManyBlocks = false;
#endif
template <typename T>
inline constexpr int kForwardBlocks = kManyBlocks ? 0 : 256 / kTileThreads<T>;
template <typename T>
inline constexpr int kBackwardBlocks = kManyBlocks && sizeof(T) == 2 ? 3 : 2;
template <typename T>
inline constexpr int kHeadPitch = pitch_of<T>(kDims);
template <typename T>
inline constexpr int kScorePitch = pitch_of<T>(kTile<T>);
template <typename T>
using HeadTile = T[kTile<T> * kHeadPitch<T>];  // tokens by outputs
template <typename T>
using ScoreTile = T[kTile<T> * kScorePitch<T>];  // queries by keys

// Scores are powers of two: e^(q k / 8) = 2^(q k kExponent).
inline constexpr float kScoreScale = 0.125f, kExponent = 0.125f * 1.44269504f;

// How far each pair turns from one position to the next, in half turns; in float64, since a stream's position may be large.
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

// The currents of one head, or their gradients, from a window's first token on; they lie in two column groups.
template <typename Real>
struct HeadCurrents {
  Real* halves[2];
  int columns;

  __device__ HeadCurrents(Real* currents, std::int64_t group_stride, int columns_, int head, std::int64_t token)
      : halves{currents + 2 * head * group_stride + token * columns_,
               currents + (2 * head + 1) * group_stride + token * columns_},
        columns(columns_) {}
  __device__ bool has_strength() const { return columns == 5 * static_cast<int>(kGroup); }
  // From output d of the head on, within one of its halves.
  __device__ Real* at(int t, int role, int d) const {
    return (d < 32 ? halves[0] : halves[1]) + t * columns + role * 32 + d % 32;
  }
  __device__ float2 pair(int t, int role, int d) const { return __ldg(reinterpret_cast<const float2*>(at(t, role, d))); }
  __device__ float4 four(int t, int role, int d) const { return __ldg(reinterpret_cast<const float4*>(at(t, role, d))); }
};

template <typename T>
__device__ inline void store_pair(T* p, float x, float y) {
  struct alignas(2 * sizeof(T)) Pair {
    T x, y;
  };
  *reinterpret_cast<Pair*>(p) = {from_float<T>(x), from_float<T>(y)};
}

// rms over the 64 outputs of a head, of which each lane of a warp has two.
__device__ inline float inverse_rms_of(float squares) { return rsqrtf(squares / kDims + static_cast<float>(kRmsEpsilon)); }

// A warp's lane i has pair i: normed, then turned.
__device__ inline float2 turned(float2 x, float2 turn) {
  const float inverse = inverse_rms_of(warp_sum(x.x * x.x + x.y * x.y));
  return {inverse * (x.x * turn.x - x.y * turn.y), inverse * (x.x * turn.y + x.y * turn.x)};
}
__device__ inline float2 value_of(const HeadCurrents<const float>& currents, int t, int d) {
  float2 v = currents.pair(t, kValue, d);
  if (currents.has_strength()) {
    const float2 s = currents.pair(t, kStrength, d);
    v.x *= 2.0f * sigmoid_of(s.x);
    v.y *= 2.0f * sigmoid_of(s.y);
  }
  return v;
}

// Fills a tile with queries, keys or values of the tokens from `begin` on; zeros behind the window. A lane takes four
// neighbouring outputs of every eighth or fourth row: its angles are turned on from one to the next.
template <typename T>
struct TileLoad {
  static constexpr int kStep = kTileThreads<T> / 16, kSteps = kTile<T> / kStep;  // rows at once, and how often
  const Turns& turns;
  float2 step[2];  // of the angles of this lane's two pairs

  __device__ explicit TileLoad(const Turns& turns_)
      : turns(turns_), step{cos_sin(turns[output() / 2], kStep), cos_sin(turns[output() / 2 + 1], kStep)} {}
  static __device__ int output() { return static_cast<int>(thread_again()) % 16 * 4; }  // the first of this lane's

  __device__ void turned(T* tile, const HeadCurrents<const float>& currents, Role role, int begin, int window) const {
    const int d = output(), first_row = static_cast<int>(thread_again()) / 16;
    float2 turn[2] = {cos_sin(turns[d / 2], begin + first_row), cos_sin(turns[d / 2 + 1], begin + first_row)};
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int row = first_row + i * kStep;
      const float4 x = currents.four(min(begin + row, window - 1), role, d);
      float squares = x.x * x.x + x.y * x.y + (x.z * x.z + x.w * x.w);
#pragma unroll
      for (int lanes = 8; lanes > 0; lanes /= 2) squares += __shfl_xor_sync(0xFFFFFFFFu, squares, lanes);
      const float inverse = begin + row < window ? inverse_rms_of(squares) : 0.0f;
      store_four(tile + row * kHeadPitch<T> + d,
                 {inverse * (x.x * turn[0].x - x.y * turn[0].y), inverse * (x.x * turn[0].y + x.y * turn[0].x),
                  inverse * (x.z * turn[1].x - x.w * turn[1].y), inverse * (x.z * turn[1].y + x.w * turn[1].x)});
#pragma unroll
      for (int k = 0; k < 2; ++k)
        turn[k] = {turn[k].x * step[k].x - turn[k].y * step[k].y, turn[k].x * step[k].y + turn[k].y * step[k].x};
    }
  }
  __device__ void values(T* tile, const HeadCurrents<const float>& currents, int begin, int window) const {
    constexpr int kAtOnce = 4;
    const int d = output(), first_row = static_cast<int>(thread_again()) / 16;
    const bool strong = currents.has_strength();
#pragma unroll
    for (int i = 0; i < kSteps; i += kAtOnce) {
      float4 v[kAtOnce], s[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const int t = min(begin + first_row + (i + k) * kStep, window - 1);
        v[k] = currents.four(t, kValue, d);
        s[k] = strong ? currents.four(t, kStrength, d) : float4{};
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const int row = first_row + (i + k) * kStep;
        const float on = begin + row < window ? 2.0f : 0.0f;
        if (strong)
          v[k] = {v[k].x * on * sigmoid_of(s[k].x), v[k].y * on * sigmoid_of(s[k].y), v[k].z * on * sigmoid_of(s[k].z),
                  v[k].w * on * sigmoid_of(s[k].w)};
        else if (on == 0.0f) v[k] = {};
        store_four(tile + row * kHeadPitch<T> + d, v[k]);
      }
    }
  }
};

// Sum over the four lanes that share a row of accumulators.
__device__ inline float row_sum(float x) {
  x += __shfl_xor_sync(0xFFFFFFFFu, x, 1);
  return x + __shfl_xor_sync(0xFFFFFFFFu, x, 2);
}
__device__ inline float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, 2));
}

// A tile of queries: this thread's two of them, and what they see.
template <typename T>
struct QueryTile {
  int begin, warp_row;
  int token[2], oldest[2];

  __device__ QueryTile(const int* first, int begin_, int window)
      : begin(begin_), warp_row(static_cast<int>(threadIdx.x) / 32 * 16) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      token[half] = begin + warp_row + row_of(0, 2 * half);
      oldest[half] = token[half] < window ? first[token[half]] : window;  // behind the window: sees nothing
    }
  }
  __device__ bool sees(int half, int key) const { return key >= oldest[half] && key <= token[half]; }
};

template <typename T>
using Scores = Accumulators<1, kTile<T> / 8>;
using Mixed = Accumulators<1, kDims / 8>;

// scores = q k^T of this warp's queries.
template <typename T>
__device__ inline void multiply_scores(Scores<T>& scores, const QueryTile<T>& tile, const T* q, const T* k) {
  clear_accumulators<1, kTile<T> / 8>(scores);
  multiply<T, 1, kTile<T> / 8, kDims, Along::sum, Along::sum>(scores, q + tile.warp_row * kHeadPitch<T>, kHeadPitch<T>, k,
                                                              kHeadPitch<T>);
}

// mixed = softmax(q k^T / 8) v for the queries in `q`, and log2 of each row's sum of exponentials. The caller synchronises
// after filling q.
template <typename T>
__device__ inline void attend(const TileLoad<T>& load, const HeadCurrents<const float>& currents, const int* first,
                              int window, const QueryTile<T>& tile, const T* q, T* k, T* v, T* weights, Mixed& mixed,
                              float (&log_sum)[2]) {
  float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  clear_accumulators<1, kDims / 8>(mixed);
  for (int key = first[tile.begin] / kTile<T> * kTile<T>; key <= tile.begin; key += kTile<T>) {
    __syncthreads();
    load.turned(k, currents, kKey, key, window);
    load.values(v, currents, key, window);
    __syncthreads();
    Scores<T> scores;
    multiply_scores<T>(scores, tile, q, k);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = -INFINITY;
#pragma unroll
      for (int j = 0; j < kTile<T> / 8; ++j)
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          float& score = scores[0][j][e];
          score = tile.sees(half, key + column_of(j) + e % 2) ? score * kExponent : -INFINITY;
          largest = fmaxf(largest, score);
        }
      largest = fmaxf(maximum[half], row_max(largest));
      const float level = largest == -INFINITY ? 0.0f : largest;  // nothing seen yet
      const float shrink = exp2_of(maximum[half] - level);
      maximum[half] = largest;
      float part = 0.0f;
#pragma unroll
      for (int j = 0; j < kTile<T> / 8; ++j) {
        const float x = exp2_of(scores[0][j][2 * half] - level), y = exp2_of(scores[0][j][2 * half + 1] - level);
        part += x + y;
        store_pair(weights + (tile.warp_row + row_of(0, 2 * half)) * kScorePitch<T> + column_of(j), x, y);
      }
      sum[half] = sum[half] * shrink + row_sum(part);
#pragma unroll
      for (int j = 0; j < kDims / 8; ++j) {
        mixed[0][j][2 * half] *= shrink;
        mixed[0][j][2 * half + 1] *= shrink;
      }
    }
    __syncwarp();
    multiply<T, 1, kDims / 8, kTile<T>, Along::sum, Along::across>(mixed, weights + tile.warp_row * kScorePitch<T>,
                                                                   kScorePitch<T>, v, kHeadPitch<T>);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float inverse = reciprocal(sum[half]);
    log_sum[half] = maximum[half] + __log2f(sum[half]);
#pragma unroll
    for (int j = 0; j < kDims / 8; ++j) {
      mixed[0][j][2 * half] *= inverse;
      mixed[0][j][2 * half + 1] *= inverse;
    }
  }
}

inline void require_heads(const TensorView& currents, std::int64_t window) {
  require_operands(currents.dtype == DType::f32, "attention: currents are f32");
  require_operands(currents[0] % 2 == 0, "attention: the column groups are not whole heads of two");
  require_operands(currents[2] == 4 * kGroup || currents[2] == 5 * kGroup, "attention: an output has 4 or 5 neurons");
  require_operands(window > 0 && currents[1] % window == 0, "attention: the tokens are not whole windows");
}

}  // namespace neurogen
