#include "kernels/base/cuda_kernel.cuh"
#include "kernels/embedding.h"
#include "kernels/rms_norm.h"

namespace neurogen {
namespace {

constexpr int kThreads = 256;
constexpr int kListThreads = 512, kListWarps = kListThreads / 32;
constexpr int kListIds = 256;  // ids per block
static_assert(kListIds % 32 == 0 && kListIds < kListThreads);
constexpr int kGainColumns = 8, kGainLanes = 128;  // columns of d_gain that one block sums, and rows it takes at a time

// x of a token: token[e] + scale pair[e]. Without a pair table both are the token's row, and the scale is 0.
struct Row {
  const float *token, *pair;
  float scale;
  __device__ float at(std::int64_t e) const { return token[e] + scale * pair[e]; }
  __device__ float4 four(std::int64_t e) const {
    const float4 x = load_four(token + e), y = load_four(pair + e);
    return {x.x + scale * y.x, x.y + scale * y.y, x.z + scale * y.z, x.w + scale * y.w};
  }
  __device__ Eight<float> operator()(int e) const {
    Eight<float> x = load_eight(token + e);
    const Eight<float> y = load_eight(pair + e);
#pragma unroll
    for (int k = 0; k < 8; ++k) x.at[k] += scale * y.at[k];
    return x;
  }
};

struct Rows {
  const std::int32_t *ids, *pair_rows;
  const float *weight, *pairs;
  std::int64_t weight_stride, pairs_stride;
  float scale;
  explicit Rows(const EmbeddingRows& a)
      : ids(a.ids.as<const std::int32_t>()),
        pair_rows(a.pairs ? a.pair_rows.as<const std::int32_t>() : ids),
        weight(a.weight.as<const float>()),
        pairs(a.pairs ? a.pairs.as<const float>() : weight),
        weight_stride(a.weight.row_stride),
        pairs_stride(a.pairs ? a.pairs.row_stride : weight_stride),
        scale(a.pairs ? static_cast<float>(kPairScale) : 0.0f) {
    require_operands(a.weight.dtype == DType::f32 && (!a.pairs || a.pairs.dtype == DType::f32) && a.weight[1] % 8 == 0,
                     "the embedding's tables must be f32, rows a multiple of 8 wide");
  }
  __device__ Row operator[](std::int64_t n) const {
    return {weight + __ldg(ids + n) * weight_stride, pairs + __ldg(pair_rows + n) * pairs_stride, scale};
  }
};

__global__ void hash_pairs(const std::int32_t* ids, const std::int32_t* first, std::int64_t tokens, std::int64_t window,
                           std::int64_t pairs, std::int32_t* last, std::int32_t* rows) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (n >= tokens) return;
  const std::int64_t id = ids[n], before = last ? *last : first[n] < n % window ? ids[n - 1] : 0;
  rows[n] = static_cast<std::int32_t>((1000003 * id + 998244353 * before) % pairs);
  if (last) *last = static_cast<std::int32_t>(id);  // the only token
}

template <int kRowThreads, typename Out>
__global__ void look_up(Rows rows, const float* gain, Out* out, std::int64_t out_stride, float* inverse_rms, std::int64_t width) {
  const std::int64_t n = blockIdx.x;
  rms_normalise_row<kRowThreads>(rows[n], gain, out + n * out_stride, inverse_rms + n, width, static_cast<float>(kRmsEpsilon));
}

// Touched rows (in the upper half) and tokens (in the lower), so that one sum serves both.
using Counts = unsigned long long;

// Exclusive prefix sum over a block of kListThreads.
__device__ Counts sum_before(Counts x) {
  __shared__ Counts sums[kListWarps];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Counts sum = x;
  for (int step = 1; step < 32; step *= 2) {
    const Counts other = __shfl_up_sync(0xFFFFFFFFu, sum, step);
    if (lane >= step) sum += other;
  }
  if (lane == 31) sums[warp] = sum;
  __syncthreads();
  for (int w = 0; w < warp; ++w) sum += sums[w];
  return sum - x;
}

// A block lists kListIds rows of a table, reading all tokens: those of lower rows tell where its own begin in `rows` and `order`,
// so that no block waits for another. Each warp takes a run of tokens, in order.
__global__ void __launch_bounds__(kListThreads) list_rows(const std::int32_t* ids, int tokens, int table_rows, std::int32_t* rows,
                                                          std::int32_t* row_start, std::int32_t* order, std::int32_t* count) {
  extern __shared__ unsigned seen[];            // one bit per lower id
  __shared__ int places[kListWarps][kListIds];  // number of tokens of an id in a warp's run, then their next place
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int first = static_cast<int>(blockIdx.x) * kListIds;
  for (int i = thread; i < first / 32; i += kListThreads) seen[i] = 0;
  for (int i = thread; i < kListWarps * kListIds; i += kListThreads) places[i / kListIds][i % kListIds] = 0;
  __syncthreads();
  // Calls body(token, its id relative to the block's first) for the warp's tokens, 32 at a time; tokens beyond the run get an id
  // that no block lists.
  const auto for_tokens = [&](auto&& body) {
    constexpr int kAhead = 8;
    const int run = (tokens + kListThreads - 1) / kListThreads * 32, end = min(tokens, (warp + 1) * run);
    for (int begin = warp * run; begin < end; begin += 32 * kAhead) {
      int id[kAhead];
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        const int token = begin + 32 * k + lane;
        id[k] = token < end ? __ldg(ids + token) : table_rows + kListIds;
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) body(begin + 32 * k + lane, id[k] - first);
    }
  };
  const auto here = [](int id) { return id >= 0 && id < kListIds; };

  Counts lower = 0;
  for_tokens([&](int, int id) {
    if (id < 0) ++lower, atomicOr(&seen[(first + id) / 32], 1u << (first + id) % 32);
    if (here(id)) atomicAdd(&places[warp][id], 1);  // integers: any order gives the same sum
  });
  __syncthreads();
  for (int i = thread; i < first / 32; i += kListThreads) lower += static_cast<Counts>(__popc(seen[i])) << 32;
  lower = block_sum<kListThreads>(lower);

  int mine = 0;  // number of tokens of this thread's id
  if (thread < kListIds)
    for (int w = 0; w < kListWarps; ++w) mine += places[w][thread];
  const Counts before = lower + sum_before((mine > 0 ? Counts{1} << 32 : 0) + static_cast<Counts>(mine));
  const int row = static_cast<int>(before >> 32);
  int place = static_cast<int>(before);
  if (mine > 0) rows[row] = first + thread, row_start[row] = place;
  if (thread < kListIds) {
    for (int w = 0; w < kListWarps; ++w) {
      const int of_warp = places[w][thread];
      places[w][thread] = place;
      place += of_warp;
    }
  } else if (thread == kListThreads - 1 && blockIdx.x == gridDim.x - 1) {
    *count = row;
    row_start[row] = tokens;
  }
  __syncthreads();
  for_tokens([&](int token, int id) {
    if (!__any_sync(0xFFFFFFFFu, here(id))) return;
    const unsigned equal = __match_any_sync(0xFFFFFFFFu, id);
    if (here(id)) order[places[warp][id] + __popc(equal & ((1u << lane) - 1))] = token;
    __syncwarp();
    if (here(id) && equal >> lane == 1) places[warp][id] += __popc(equal);
    __syncwarp();
  });
}

// One block per touched row; blocks beyond `count` return at once. With `rows`, sums are added to a whole table's gradient. If
// there are more threads than columns, groups of threads share the tokens, and each thread loads several at once, since some tokens
// are very frequent.
template <typename Gradient>
__global__ void __launch_bounds__(kThreads, 4)
    sum_tokens(const Gradient* d_x, std::int64_t d_stride, const std::int32_t* row_start, const std::int32_t* order,
               const std::int32_t* count, float scale, const std::int32_t* rows, float* d_rows, std::int64_t d_rows_stride,
               int width) {
  constexpr int kColumns = 16 / sizeof(Gradient), kAhead = 4;
  using Sums = Neighbours<kColumns, float>;
  __shared__ Sums sums[kThreads];
  const std::int64_t i = blockIdx.x;
  if (i >= *count) return;
  const int begin = row_start[i], end = row_start[i + 1], thread = static_cast<int>(threadIdx.x);
  const int vectors = width / kColumns, across = min(vectors, kThreads), share = thread / across,
            shares = min(kThreads / across, end - begin);
  for (int v = thread % across; v < vectors; v += across) {  // runs once if there are several shares
    Sums sum{};
    for (int n = share < shares ? begin + share : end; n < end; n += kAhead * shares) {
      Neighbours<kColumns, Gradient> d[kAhead];
#pragma unroll
      for (int k = 0; k < kAhead; ++k)
        if (n + k * shares < end)
          d[k] = *reinterpret_cast<const Neighbours<kColumns, Gradient>*>(d_x + order[n + k * shares] * d_stride + v * kColumns);
#pragma unroll
      for (int k = 0; k < kAhead; ++k)
        if (n + k * shares < end)
#pragma unroll
          for (int c = 0; c < kColumns; ++c) sum.at[c] += to_float(d[k].at[c]);
    }
    if (shares > 1) {
      sums[thread] = sum;
      __syncthreads();
      if (share > 0) return;
      for (int s = 1; s < shares; ++s)
#pragma unroll
        for (int c = 0; c < kColumns; ++c) sum.at[c] += sums[s * across + thread].at[c];
    }
#pragma unroll
    for (int c = 0; c < kColumns; ++c) sum.at[c] *= scale;
    if (share > 0) continue;
    Sums* const to = reinterpret_cast<Sums*>(d_rows + (rows ? rows[i] : i) * d_rows_stride + v * kColumns);
    if (rows) {
      const Sums before = *to;
#pragma unroll
      for (int c = 0; c < kColumns; ++c) sum.at[c] += before.at[c];
    }
    *to = sum;
  }
}

// A block sums its columns over all tokens: lane l takes tokens l, l + kGainLanes, ..., then the lanes are added in order.
template <typename Gradient>
__global__ void __launch_bounds__(kGainColumns* kGainLanes)
    gain_gradient(Rows rows, const float* inverse_rms, const Gradient* d_out, std::int64_t d_stride, std::int64_t tokens,
                  float* d_gain, std::int64_t width) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kGainColumns + threadIdx.x;
  __shared__ float sums[kGainLanes][kGainColumns];
  float sum = 0;
  if (column < width) {
#pragma unroll 8
    for (std::int64_t n = threadIdx.y; n < tokens; n += kGainLanes)
      sum += to_float(d_out[n * d_stride + column]) * (rows[n].at(column) * inverse_rms[n]);
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= width) return;
  for (int lane = 1; lane < kGainLanes; ++lane) sum += sums[lane][threadIdx.x];
  d_gain[column] = sum;
}

// One block per token. A thread reads again only what it wrote itself.
template <typename Gradient>
__global__ void __launch_bounds__(kThreads) through_norm(Rows rows, const float* gain, const float* inverse_rms, Gradient* d_out,
                                                         std::int64_t d_stride, std::int64_t width) {
  const std::int64_t n = blockIdx.x;
  const Row x = rows[n];
  Gradient* d = d_out + n * d_stride;
  const float inverse = inverse_rms[n];
  float sum = 0;
  for (std::int64_t e = 4 * threadIdx.x; e < width; e += 4 * kThreads) {
    const float4 a = load_four(d + e), g = load_four(gain + e), y = x.four(e);
    sum += (a.x * g.x * y.x + a.y * g.y * y.y) + (a.z * g.z * y.z + a.w * g.w * y.w);
  }
  const float dot = block_sum<kThreads>(sum) * inverse * inverse / static_cast<float>(width);
  for (std::int64_t e = 4 * threadIdx.x; e < width; e += 4 * kThreads) {
    const float4 a = load_four(d + e), g = load_four(gain + e), y = x.four(e);
    store_four(d + e, {inverse * (g.x * a.x - y.x * dot), inverse * (g.y * a.y - y.y * dot), inverse * (g.z * a.z - y.z * dot),
                       inverse * (g.w * a.w - y.w * dot)});
  }
}

}  // namespace

void pair_rows(CudaDevice& device, const PairRows& a) {
  require_operands(a.pairs > 0 && (a.last ? a.ids[0] == 1 : a.window > 0),
                   "pair_rows: a table and whole windows or one token are needed");
  launch(device, "pair_rows", hash_pairs, dim3(pieces(a.ids[0], kThreads)), dim3(kThreads), 0, a.ids.as<const std::int32_t>(),
         a.first.as<const std::int32_t>(), a.ids[0], a.window, a.pairs, a.last.as<std::int32_t>(), a.rows.as<std::int32_t>());
}

void embedding_forward(CudaDevice& device, const EmbeddingForward& a) {
  const std::int64_t width = a.out[1];
  dispatch_float(a.out.dtype, [&](auto out) {
    using Out = decltype(out);
    dispatch_row_threads(width, [&](auto threads) {
      launch(device, "embedding_forward", look_up<threads.value, Out>, dim3(pieces(a.out[0], 1)), dim3(threads.value), 0,
             Rows(a.rows), a.gain.as<const float>(), a.out.as<Out>(), a.out.row_stride, a.inverse_rms.as<float>(), width);
    });
  });
}

void embedding_backward(CudaDevice& device, const EmbeddingBackward& a) {
  const std::int64_t tokens = a.d_out[0], width = a.d_out[1];
  const Rows rows(a.rows);
  const auto* inverse = a.inverse_rms.as<const float>();
  dispatch_float(a.d_out.dtype, [&](auto gradient) {
    using Gradient = decltype(gradient);
    auto* d_out = a.d_out.as<Gradient>();
    launch(device, "embedding_backward", gain_gradient<Gradient>, dim3(pieces(width, kGainColumns)), dim3(kGainColumns, kGainLanes),
           0, rows, inverse, d_out, a.d_out.row_stride, tokens, a.d_gain.as<float>(), width);
    launch(device, "embedding_backward", through_norm<Gradient>, dim3(pieces(tokens, 1)), dim3(kThreads), 0, rows,
           a.gain.as<const float>(), inverse, d_out, a.d_out.row_stride, width);
  });
}

void touched_rows(CudaDevice& device, const TouchedRows& a) {
  launch(device, "touched_rows", list_rows, dim3(pieces(a.table_rows, kListIds)), dim3(kListThreads),
         pieces(a.table_rows, 32) * sizeof(unsigned), a.ids.as<const std::int32_t>(), a.ids[0], a.table_rows,
         a.rows.as<std::int32_t>(), a.row_start.as<std::int32_t>(), a.order.as<std::int32_t>(), a.count.as<std::int32_t>());
}

void row_gradients(CudaDevice& device, const RowGradients& a) {
  require_operands(a.d_rows.dtype == DType::f32 && a.d_x[1] % 8 == 0,
                   "row_gradients: the rows' gradient must be f32, rows a multiple of 8 wide");
  dispatch_float(a.d_x.dtype, [&](auto gradient) {
    using Gradient = decltype(gradient);
    launch(device, "row_gradients", sum_tokens<Gradient>, dim3(pieces(a.rows ? a.rows[0] : a.d_rows[0], 1)), dim3(kThreads), 0,
           a.d_x.as<const Gradient>(), a.d_x.row_stride, a.row_start.as<const std::int32_t>(), a.order.as<const std::int32_t>(),
           a.count.as<const std::int32_t>(), a.scale, a.rows.as<const std::int32_t>(), a.d_rows.as<float>(), a.d_rows.row_stride,
           a.d_x[1]);
  });
}

}  // namespace neurogen
