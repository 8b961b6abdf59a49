// The backward pass, in two passes over each head and window. The first takes tiles of queries, computes the term d_out out of each
// and its gradient; the second takes tiles of keys and gathers the gradients of keys and values from all queries that see them.
#include "kernels/causal_attention_cuda.cuh"

namespace neurogen {
namespace {

template <typename T>
struct Windows {
  const T *q, *k, *v, *out, *d_out;
  T *d_q, *d_k, *d_v;
  std::int64_t q_stride, k_stride, v_stride, out_stride, d_out_stride, d_q_stride, d_k_stride, d_v_stride;
  const int* first;
  const float* log_sum_exp;  // [H, N]
  float* dot;                // [H, N]
  std::int64_t tokens;
  int window, width, shared;  // shared: heads of queries that share one of keys
  float scale;                // 1 / sqrt(d)

  // The address of this block's window and of a head.
  template <typename Real>
  __device__ Real* at(Real* x, std::int64_t stride, int head) const {
    return x + blockIdx.y * static_cast<std::int64_t>(window) * stride + head * width;
  }
  template <typename Real>
  __device__ Real* row(Real* statistics, int head) const {
    return statistics + head * tokens + blockIdx.y * static_cast<std::int64_t>(window);
  }
};

// Tokens of a tile whose scores a warp holds at a time, and least number of blocks that a multiprocessor holds: an old card's
// shared memory has no room for three.
template <typename T, int D>
inline constexpr int kStepTokens = std::min(kCounterparts<T, D>, 32);
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
template <typename T, int D>
inline constexpr int kBlocks = 1;
#else
template <typename T, int D>
inline constexpr int kBlocks = D == 64 && kHeld<T> ? 3 : 2;
#endif

// Replaces a score by its softmax weight, or 0 if the key is not visible, and the weight's gradient by the score's.
__device__ inline void weigh(float& score, float& d_weight, bool seen, float exponent, float log2_sum, float dot) {
  score = seen ? exp2_of(score * exponent - log2_sum) : 0.0f;
  d_weight = score * (d_weight - dot);
}

template <typename T, int D>
struct QueriesMemory {
  HeadRows<T, D, kCounterparts<T, D>> keys[kStages], values[kStages];
  HeadRows<T, D, kOwnRows<T, D>> queries, d_out;
  float dot[kOwnRows<T, D>];
  typename Left<T, kStepTokens<T, D>>::Room weights[kOwnRows<T, D> / 16];
};

template <typename T, int D>
__global__ void __launch_bounds__(kAttentionThreads<T, D>, kBlocks<T, D>) queries_kernel(const __grid_constant__ Windows<T> a) {
  constexpr int kTile = kCounterparts<T, D>, kStep = kStepTokens<T, D>, kPitch = pitch_of<T>(D), kVectors = D / kVector<T>;
  auto& memory = *reinterpret_cast<QueriesMemory<T, D>*>(shared_memory);
  const int head = static_cast<int>(blockIdx.x), begin = static_cast<int>(gridDim.z - 1 - blockIdx.z) * kOwnRows<T, D>,
            warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int* const first = a.first + static_cast<std::int64_t>(blockIdx.y) * a.window;
  Left<T, D> q(memory.queries + warp * 16 * kPitch), d_out(memory.d_out + warp * 16 * kPitch);
  const Queries queries(first, begin + warp * 16, a.window);
  const float exponent = a.scale * kLog2E;
  float log2_sum[2], dot[2];
  // Reads this warp's queries, which are loaded together with the first keys.
  const auto begin_queries = [&] {
    q.read();
    d_out.read();
#pragma unroll
    for (int r = 0; r < 16; r += 32 / kVectors) {
      const int row = r + lane / kVectors, t = begin + warp * 16 + row, column = lane % kVectors * kVector<T>;
      float sum = 0;
      if (t < a.window && column < a.width) {
        const auto x =
            *reinterpret_cast<const Neighbours<kVector<T>, T>*>(a.at(a.out, a.out_stride, head) + t * a.out_stride + column);
#pragma unroll
        for (int e = 0; e < kVector<T>; ++e) sum += to_float(x.at[e]) * to_float(d_out.rows[row * kPitch + column + e]);
      }
#pragma unroll
      for (int step = kVectors / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, step);
      if (lane % kVectors == 0) memory.dot[warp * 16 + row] = sum;
      if (lane % kVectors == 0 && t < a.window) a.row(a.dot, head)[t] = sum;
    }
    __syncwarp();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      log2_sum[half] = a.row(a.log_sum_exp, head)[min(queries.token[half], a.window - 1)] * kLog2E;
      dot[half] = memory.dot[warp * 16 + row_of(0, 2 * half)];
    }
  };
  Accumulators<1, D / 8> d_q;
  clear_accumulators<1, D / 8>(d_q);
  Left<T, kStep> d_scores(memory.weights[warp]);
  const auto attend = [&](const T* keys, const T* values, int tile) {
    queries.steps<kTile, kStep>(tile, [&](int row, bool whole) {
      const T *const k = keys + row * kPitch, *const v = values + row * kPitch;
      Accumulators<1, kStep / 8> scores, d_weights;
      clear_accumulators<1, kStep / 8>(scores);
      clear_accumulators<1, kStep / 8>(d_weights);
      q.template multiply<Along::sum>(scores, k, kPitch);
      d_out.template multiply<Along::sum>(d_weights, v, kPitch);
#pragma unroll
      for (int j = 0; j < kStep / 8; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          weigh(scores[0][j][e], d_weights[0][j][e], whole || queries.sees(e / 2, tile + row + column_of(j) + e % 2), exponent,
                log2_sum[e / 2], dot[e / 2]);
      d_scores.round(d_weights);
      d_scores.template multiply<Along::across>(d_q, k, kPitch);
    });
  };
  const T *const k = a.at(a.k, a.k_stride, head / a.shared), *const v = a.at(a.v, a.v_stride, head / a.shared);
  const int oldest = first[begin] / kTile * kTile, end = min(begin + kOwnRows<T, D>, a.window);
  int loaded = oldest, tile = oldest;
  pipeline<kStages>(
      (end - oldest + kTile - 1) / kTile,
      [&](int stage) {
        if (loaded == oldest) {
          load_rows<D, kOwnRows<T, D>>(memory.queries, a.at(a.q, a.q_stride, head), a.q_stride, begin, a.window, a.width);
          load_rows<D, kOwnRows<T, D>>(memory.d_out, a.at(a.d_out, a.d_out_stride, head), a.d_out_stride, begin, a.window, a.width);
        }
        load_rows<D, kTile>(memory.keys[stage], k, a.k_stride, loaded, a.window, a.width);
        load_rows<D, kTile>(memory.values[stage], v, a.v_stride, loaded, a.window, a.width);
        loaded += kTile;
      },
      [&](int stage) {
        if (tile == oldest) begin_queries();
        attend(memory.keys[stage], memory.values[stage], tile);
        tile += kTile;
      });
  store_rows<D>(a.at(a.d_q, a.d_q_stride, head), a.d_q_stride, d_q, {a.scale, a.scale}, queries.begin, a.window, a.width);
}

template <typename T, int D>
struct KeysMemory {
  static constexpr int kTile = kCounterparts<T, D>;
  HeadRows<T, D, kTile> queries[kStages], d_out[kStages];
  float log_sum_exp[kStages][kTile], dot[kStages][kTile];
  int oldest[kStages][kTile], begin[kStages];  // begin: first token of the stage's queries
  alignas(16) HeadRows<T, D, kOwnRows<T, D>> keys, values;
  typename Left<T, kStepTokens<T, D>>::Room weights[kOwnRows<T, D> / 16];
};

// A block takes a tile of keys of one head and window, and all heads of queries that share it.
template <typename T, int D>
__global__ void __launch_bounds__(kAttentionThreads<T, D>, kBlocks<T, D>) keys_kernel(const __grid_constant__ Windows<T> a) {
  constexpr int kTile = kCounterparts<T, D>, kStep = kStepTokens<T, D>, kPitch = pitch_of<T>(D);
  constexpr bool kInRegisters = kHeld<T> && D == 64;  // of wider heads there is no room for keys
  auto& memory = *reinterpret_cast<KeysMemory<T, D>*>(shared_memory);
  const int key_head = static_cast<int>(blockIdx.x), block_key = static_cast<int>(blockIdx.z) * kOwnRows<T, D>,
            warp = static_cast<int>(threadIdx.x) / 32, key = block_key + warp * 16;
  const int* const first = a.first + static_cast<std::int64_t>(blockIdx.y) * a.window;
  Left<T, D, kInRegisters> k(memory.keys + warp * 16 * kPitch);
  Left<T, D, false> v(memory.values + warp * 16 * kPitch);
  Accumulators<1, D / 8> d_k, d_v;
  clear_accumulators<1, D / 8>(d_k);
  clear_accumulators<1, D / 8>(d_v);
  Left<T, kStep> weights(memory.weights[warp]);
  const float exponent = a.scale * kLog2E;
  const auto gather = [&](int stage, int tile) {
#pragma unroll 1
    for (int row = 0; row < kTile; row += kStep) {
      const int query = tile + row, last = min(query + kStep, a.window) - 1;
      const int* const oldest_seen = memory.oldest[stage] + row;
      if (last < max(key, query) || oldest_seen[0] > key + 15) continue;  // no query sees a key
      const bool whole = query >= key + 15 && oldest_seen[last - query] <= key;
      const T *const q = memory.queries[stage] + row * kPitch, *const d_out = memory.d_out[stage] + row * kPitch;
      Accumulators<1, kStep / 8> scores, d_weights;
      clear_accumulators<1, kStep / 8>(scores);
      clear_accumulators<1, kStep / 8>(d_weights);
      k.template multiply<Along::sum>(scores, q, kPitch);
      v.template multiply<Along::sum>(d_weights, d_out, kPitch);
#pragma unroll
      for (int j = 0; j < kStep / 8; ++j)
#pragma unroll
        for (int side = 0; side < 2; ++side) {
          const int column = column_of(j) + side, oldest = whole ? 0 : oldest_seen[column];
          const float log2_sum = memory.log_sum_exp[stage][row + column] * kLog2E, dot = memory.dot[stage][row + column];
#pragma unroll
          for (int e = side; e < 4; e += 2) {
            const int mine = key + row_of(0, e);
            weigh(scores[0][j][e], d_weights[0][j][e], whole || (mine <= query + column && mine >= oldest), exponent, log2_sum,
                  dot);
          }
        }
      weights.round(scores);
      weights.template multiply<Along::across>(d_v, d_out, kPitch);
      weights.round(d_weights);
      weights.template multiply<Along::across>(d_k, q, kPitch);
    }
  };
  // Tiles of queries that may see a key, for each head in turn. Document starts never decrease, so the last such tile can be
  // counted.
  const int begin = block_key / kTile * kTile, newest = block_key + kOwnRows<T, D> - 1;
  int tiles = 0;
  for (int t = begin; t < a.window; t += kTile * kAttentionThreads<T, D>) {
    const int mine = t + static_cast<int>(threadIdx.x) * kTile;
    tiles += __syncthreads_count(mine < a.window && first[mine] <= newest);
  }
  int loaded = 0;
  bool fresh = true;
  pipeline<kStages>(
      tiles * a.shared,
      [&](int stage) {
        const int head = key_head * a.shared + loaded / tiles, query = begin + loaded % tiles * kTile;
        if (loaded++ == 0) {
          load_rows<D, kOwnRows<T, D>>(memory.keys, a.at(a.k, a.k_stride, key_head), a.k_stride, block_key, a.window, a.width);
          load_rows<D, kOwnRows<T, D>>(memory.values, a.at(a.v, a.v_stride, key_head), a.v_stride, block_key, a.window, a.width);
        }
        load_rows<D, kTile>(memory.queries[stage], a.at(a.q, a.q_stride, head), a.q_stride, query, a.window, a.width);
        load_rows<D, kTile>(memory.d_out[stage], a.at(a.d_out, a.d_out_stride, head), a.d_out_stride, query, a.window, a.width);
        if (threadIdx.x < kTile) {
          const int row = static_cast<int>(threadIdx.x), t = min(query + row, a.window - 1);
          const bool present = query + row < a.window;
          copy_word_behind(memory.log_sum_exp[stage] + row, a.row(a.log_sum_exp, head) + t, present);
          copy_word_behind(memory.dot[stage] + row, static_cast<const float*>(a.row(a.dot, head)) + t, present);
          copy_word_behind(memory.oldest[stage] + row, first + t);
        }
        if (threadIdx.x == 0) memory.begin[stage] = query;
      },
      [&](int stage) {
        if (fresh) k.read();
        fresh = false;
        gather(stage, memory.begin[stage]);
      });
  store_rows<D>(a.at(a.d_k, a.d_k_stride, key_head), a.d_k_stride, d_k, {a.scale, a.scale}, key, a.window, a.width);
  store_rows<D>(a.at(a.d_v, a.d_v_stride, key_head), a.d_v_stride, d_v, {1, 1}, key, a.window, a.width);
}

}  // namespace

void causal_attention_backward(CudaDevice& device, const CausalAttentionBackward& a) {
  require_attention(device, a.heads, a.window, {a.q, a.k, a.v, a.out, a.d_out, a.d_q, a.d_k, a.d_v}, {a.log_sum_exp, a.dot});
  const std::int64_t width = a.q[1] / a.heads.queries;
  dispatch_heads(a.q.dtype, width, [&](auto zero, auto padded) {
    using T = decltype(zero);
    constexpr int D = padded.value;
    const Windows<T> windows{a.q.as<const T>(),
                             a.k.as<const T>(),
                             a.v.as<const T>(),
                             a.out.as<const T>(),
                             a.d_out.as<const T>(),
                             a.d_q.as<T>(),
                             a.d_k.as<T>(),
                             a.d_v.as<T>(),
                             a.q.row_stride,
                             a.k.row_stride,
                             a.v.row_stride,
                             a.out.row_stride,
                             a.d_out.row_stride,
                             a.d_q.row_stride,
                             a.d_k.row_stride,
                             a.d_v.row_stride,
                             a.first.as<const int>(),
                             a.log_sum_exp.as<const float>(),
                             a.dot.as<float>(),
                             a.q[0],
                             static_cast<int>(a.window),
                             static_cast<int>(width),
                             static_cast<int>(a.heads.queries / a.heads.keys),
                             1 / std::sqrt(static_cast<float>(width))};
    const auto run = [&](auto kernel, std::int64_t heads, std::size_t shared) {
      launch_with(device, "causal_attention_backward", kernel,
                  dim3(static_cast<unsigned>(heads), static_cast<unsigned>(a.q[0] / a.window), pieces(a.window, kOwnRows<T, D>)),
                  dim3(kAttentionThreads<T, D>), shared, windows);
    };
    run(queries_kernel<T, D>, a.heads.queries, sizeof(QueriesMemory<T, D>));
    run(keys_kernel<T, D>, a.heads.keys, sizeof(KeysMemory<T, D>));
  });
}

}  // namespace neurogen
