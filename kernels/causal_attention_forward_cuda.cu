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

template <typename T, int D>
struct Memory {
  HeadRows<T, D, kCounterparts<T, D>> keys[kStages], values[kStages];
  HeadRows<T, D, kOwnRows<T, D>> queries;
  typename Left<T, kCounterparts<T, D>>::Room weights[kOwnRows<T, D> / 16];
};

// The tiles that see the most keys come first.
template <typename T, int D>
__global__ void __launch_bounds__(kAttentionThreads<T, D>, 2) forward_kernel(const Windows<T> a) {
  constexpr int kTile = kCounterparts<T, D>, kPitch = pitch_of<T>(D);
  auto& memory = *reinterpret_cast<Memory<T, D>*>(shared_memory);
  const int head = static_cast<int>(blockIdx.x), begin = static_cast<int>(gridDim.z - 1 - blockIdx.z) * kOwnRows<T, D>,
            warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.y) * a.window;
  const int* const first = a.first + token;
  Left<T, D> q(memory.queries + warp * 16 * kPitch);
  Left<T, kTile> weights(memory.weights[warp]);
  const Queries queries(first, begin + warp * 16, a.window);
  Accumulators<1, D / 8> out;
  clear_accumulators<1, D / 8>(out);
  float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};

  const auto attend = [&](const T* keys, const T* values, int tile) {
    if (tile > queries.last || tile + kTile <= queries.oldest_of_first) return;
    const bool whole = tile + kTile - 1 <= queries.begin && tile >= queries.oldest_of_last;
    Accumulators<1, kTile / 8> scores;
    clear_accumulators<1, kTile / 8>(scores);
    q.template multiply<Along::sum>(scores, keys, kPitch);
    float largest[2] = {maximum[0], maximum[1]}, base[2];
#pragma unroll
    for (int j = 0; j < kTile / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        if (!whole && !queries.sees(e / 2, tile + column_of(j) + e % 2)) scores[0][j][e] = -INFINITY;
        largest[e / 2] = fmaxf(largest[e / 2], scores[0][j][e]);
      }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      largest[half] = row_maximum(largest[half]);
      base[half] = largest[half] == -INFINITY ? 0.0f : largest[half] * a.exponent;  // no key seen yet
      const float shrink = exp2_of(maximum[half] * a.exponent - base[half]);
      maximum[half] = largest[half];
      sum[half] *= shrink;
#pragma unroll
      for (int j = 0; j < D / 8; ++j) out[0][j][2 * half] *= shrink, out[0][j][2 * half + 1] *= shrink;
    }
#pragma unroll
    for (int j = 0; j < kTile / 8; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        scores[0][j][e] = exp2_of(scores[0][j][e] * a.exponent - base[e / 2]);
        sum[e / 2] += scores[0][j][e];
      }
    weights.round(scores);
    weights.template multiply<Along::across>(out, values, kPitch);
  };
  const T *const k = a.k + token * a.k_stride + head / a.shared * a.width, *const v =
                                                                               a.v + token * a.v_stride + head / a.shared * a.width;
  const int oldest = first[begin] / kTile * kTile, end = min(begin + kOwnRows<T, D>, a.window);
  int loaded = oldest, tile = oldest;
  pipeline<kStages>((end - oldest + kTile - 1) / kTile,
                    [&](int stage) {
                      if (loaded == oldest)
                        load_rows<D, kOwnRows<T, D>>(memory.queries, a.q + token * a.q_stride + head * a.width, a.q_stride, begin,
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
  float inverse[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    sum[half] = row_sum(sum[half]);
    inverse[half] = reciprocal(sum[half]);
    const int t = queries.token[half];
    if (a.log_sum_exp && t < a.window && threadIdx.x % 4 == 0)
      a.log_sum_exp[head * a.tokens + token + t] = (maximum[half] * a.exponent + __log2f(sum[half])) / kLog2E;
  }
  store_rows<D>(a.out + token * a.out_stride + head * a.width, a.out_stride, out, inverse, queries.begin, a.window, a.width);
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
        dim3(static_cast<unsigned>(a.heads.queries), static_cast<unsigned>(a.q[0] / a.window), pieces(a.window, kOwnRows<T, D>)),
        dim3(kAttentionThreads<T, D>), sizeof(Memory<T, D>),
        Windows<T>{a.q.as<const T>(), a.k.as<const T>(), a.v.as<const T>(), a.q.row_stride, a.k.row_stride, a.v.row_stride,
                   a.first.as<const int>(), a.out.as<T>(), a.out.row_stride, a.log_sum_exp.as<float>(), a.q[0],
                   static_cast<int>(a.window), static_cast<int>(width), static_cast<int>(a.heads.queries / a.heads.keys),
                   kLog2E / std::sqrt(static_cast<float>(width))});
  });
}

}  // namespace neurogen
