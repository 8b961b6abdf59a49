// A block takes a tile of queries of one head and window.
#include "kernels/causal_attention_cuda.cuh"

namespace neurogen {
namespace {

template <typename T>
struct Windows {
  const T *q, *k, *v;
  std::int64_t q_stride, k_stride, v_stride;
  const int* first;
  T* out;
  std::int64_t out_stride;
  float* log_sum_exp;
  std::int64_t tokens;
  int window, width, shared;  // shared: heads of queries that share one of keys
  float exponent;             // 1 / sqrt(d), for powers of two
};

// A warp takes 16 kMany queries: two products for each operand that it reads from shared memory, where there are enough registers.
template <typename T, int D>
inline constexpr int kMany = D == 64 && kHeld<T> ? 2 : 1;
template <typename T, int D>
inline constexpr int kQueries = kMany<T, D> == 2 ? 2 * kOwnRows<T> : kOwnRows<T>;  // of a block
template <typename T, int D>
inline constexpr int kStep = kCounterparts<T, D> / kMany<T, D>;  // keys whose scores a warp holds at a time

template <typename T, int D>
struct Memory {
  HeadRows<T, D, kCounterparts<T, D>> keys[kStages], values[kStages];
  HeadRows<T, D, kQueries<T, D>> queries;
  typename Left<T, kStep<T, D>>::Room weights[kOwnRows<T> / 16];
};

// The tiles that see the most keys come first.
template <typename T, int D>
__global__ void __launch_bounds__(kAttentionThreads<T>, 2) forward_kernel(const Windows<T> a) {
  constexpr int kTile = kCounterparts<T, D>, kPitch = pitch_of<T>(D), M = kMany<T, D>, kKeys = kStep<T, D>;
  auto& memory = *reinterpret_cast<Memory<T, D>*>(shared_memory);
  const int head = static_cast<int>(blockIdx.x), begin = static_cast<int>(gridDim.z - 1 - blockIdx.z) * kQueries<T, D>,
            warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.y) * a.window;
  const int* const first = a.first + token;
  Left<T, D, kHeld<T>, M> q(memory.queries + warp * 16 * M * kPitch);
  Left<T, kKeys, kHeld<T>, M> weights(memory.weights[warp]);
  const QueriesOf<M> queries(first, begin + warp * 16 * M, a.window);
  Accumulators<M, D / 8> out;
  clear_accumulators<M, D / 8>(out);
  float maximum[2 * M], sum[2 * M];  // of each of the thread's queries
#pragma unroll
  for (int i = 0; i < 2 * M; ++i) maximum[i] = -INFINITY, sum[i] = 0;

  const auto attend = [&](const T* keys, const T* values, int tile) {
    queries.template steps<kTile, kKeys>(tile, [&](int row, bool whole) {
      Accumulators<M, kKeys / 8> scores;
      clear_accumulators<M, kKeys / 8>(scores);
      q.template multiply<Along::sum>(scores, keys + row * kPitch, kPitch);
#pragma unroll
      for (int i = 0; i < 2 * M; ++i) {
        float largest = maximum[i];
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
          for (int side = 0; side < 2; ++side) {
            float& score = scores[i / 2][j][i % 2 * 2 + side];
            if (!whole && !queries.sees(i, tile + row + column_of(j) + side)) score = -INFINITY;
            largest = fmaxf(largest, score);
          }
        largest = row_maximum(largest);
        const float base = largest == -INFINITY ? 0.0f : largest * a.exponent;  // no key seen yet
        const float shrink = exp2_of(maximum[i] * a.exponent - base);
        maximum[i] = largest;
        sum[i] *= shrink;
#pragma unroll
        for (int j = 0; j < kKeys / 8; ++j)
#pragma unroll
          for (int side = 0; side < 2; ++side) {
            float& score = scores[i / 2][j][i % 2 * 2 + side];
            score = exp2_of(score * a.exponent - base);
            sum[i] += score;
          }
#pragma unroll
        for (int j = 0; j < D / 8; ++j) out[i / 2][j][i % 2 * 2] *= shrink, out[i / 2][j][i % 2 * 2 + 1] *= shrink;
      }
      weights.round(scores);
      weights.template multiply<Along::across>(out, values + row * kPitch, kPitch);
    });
  };
  const T *const k = a.k + token * a.k_stride + head / a.shared * a.width, *const v =
                                                                               a.v + token * a.v_stride + head / a.shared * a.width;
  const int oldest = first[begin] / kTile * kTile, end = min(begin + kQueries<T, D>, a.window);
  int loaded = oldest, tile = oldest;
  pipeline<kStages>((end - oldest + kTile - 1) / kTile,
                    [&](int stage) {
                      if (loaded == oldest)
                        load_rows<D, kQueries<T, D>>(memory.queries, a.q + token * a.q_stride + head * a.width, a.q_stride, begin,
                                                     a.window, a.width);
                      load_rows<D, kTile>(memory.keys[stage], k, a.k_stride, loaded, a.window, a.width);
                      load_rows<D, kTile>(memory.values[stage], v, a.v_stride, loaded, a.window, a.width);
                      loaded += kTile;
                    },
                    [&](int stage) {
                      if (tile == oldest) q.read();
                      attend(memory.keys[stage], memory.values[stage], tile);
                      tile += kTile;
                    });
  float inverse[2 * M];
#pragma unroll
  for (int i = 0; i < 2 * M; ++i) {
    sum[i] = row_sum(sum[i]);
    inverse[i] = reciprocal(sum[i]);
    const int t = queries.token[i];
    if (a.log_sum_exp && t < a.window && threadIdx.x % 4 == 0)
      a.log_sum_exp[head * a.tokens + token + t] = (maximum[i] * a.exponent + __log2f(sum[i])) / kLog2E;
  }
  store_rows<D, M>(a.out + token * a.out_stride + head * a.width, a.out_stride, out, inverse, queries.begin, a.window, a.width);
}

}  // namespace

void causal_attention_forward(CudaDevice& device, const CausalAttentionForward& a) {
  require_attention(device, a.heads, a.window, {a.q, a.k, a.v, a.out}, {a.log_sum_exp});
  const std::int64_t width = a.q[1] / a.heads.queries;
  dispatch_heads(a.q.dtype, width, [&](auto zero, auto padded) {
    using T = decltype(zero);
    constexpr int D = padded.value;
    launch_with(
        device, "causal_attention_forward", forward_kernel<T, D>,
        dim3(static_cast<unsigned>(a.heads.queries), static_cast<unsigned>(a.q[0] / a.window), pieces(a.window, kQueries<T, D>)),
        dim3(kAttentionThreads<T>), sizeof(Memory<T, D>),
        Windows<T>{a.q.as<const T>(), a.k.as<const T>(), a.v.as<const T>(), a.q.row_stride, a.k.row_stride, a.v.row_stride,
                   a.first.as<const int>(), a.out.as<T>(), a.out.row_stride, a.log_sum_exp.as<float>(), a.q[0],
                   static_cast<int>(a.window), static_cast<int>(width), static_cast<int>(a.heads.queries / a.heads.keys),
                   kLog2E / std::sqrt(static_cast<float>(width))});
  });
}

}  // namespace neurogen
