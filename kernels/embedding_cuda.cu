#include "kernels/cuda_kernel.cuh"
#include "kernels/embedding.h"
#include "kernels/rms_norm.h"

namespace neurogen {
namespace {

constexpr int kThreads = 256;
constexpr int kListThreads = 512, kListWarps = kListThreads / 32;
constexpr int kListIds = 256;  // ids per block
static_assert(kListIds % 32 == 0 && kListIds < kListThreads);
constexpr int kGainColumns = 8, kGainLanes = 128;  // columns of d_gain that one block sums, and rows it takes at a time

template <int kRowThreads, typename Out>
__global__ void look_up(const std::int32_t* ids, const float* weight, std::int64_t weight_stride, const float* gain, Out* out,
                        std::int64_t out_stride, float* inverse_rms, std::int64_t width) {
  const std::int64_t n = blockIdx.x;
  rms_normalise_row<kRowThreads>(weight + ids[n] * weight_stride, gain, out + n * out_stride, inverse_rms + n, width,
                                 static_cast<float>(kRmsEpsilon));
}

// Touched ids (in the upper half) and tokens (in the lower), so that one sum serves both.
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

// A block lists kListIds ids, reading all tokens: those of lower ids tell where its own begin in `rows` and `order`, so that no
// block waits for another. Each warp takes a run of tokens, in order.
__global__ void __launch_bounds__(kListThreads) list_rows(const std::int32_t* ids, int tokens, int vocabulary, std::int32_t* rows,
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
        id[k] = token < end ? __ldg(ids + token) : vocabulary + kListIds;
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

// All tokens of a row share x^ and rms, and the norm's backward pass is linear: sum first, go back once. One block per touched row;
// blocks beyond `count` return at once. If there are more threads than columns, groups of threads share the tokens, and each thread
// loads several at once, since some tokens are very frequent.
template <typename Gradient>
__global__ void __launch_bounds__(kThreads, 4)
    sum_tokens(const Gradient* d_out, std::int64_t d_stride, const std::int32_t* row_start, const std::int32_t* order,
               const std::int32_t* count, float* d_rows, std::int64_t d_rows_stride, int width) {
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
          d[k] = *reinterpret_cast<const Neighbours<kColumns, Gradient>*>(d_out + order[n + k * shares] * d_stride + v * kColumns);
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
    if (share == 0) *reinterpret_cast<Sums*>(d_rows + i * d_rows_stride + v * kColumns) = sum;
  }
}

// x^ = weight / rms of a touched row.
struct Rows {
  const float* weight;
  std::int64_t stride;
  const float* inverse_rms;
  const std::int32_t *rows, *row_start, *order, *count;
  __device__ const float* row(std::int64_t i) const { return weight + rows[i] * stride; }
  __device__ float inverse(std::int64_t i) const { return inverse_rms[order[row_start[i]]]; }
};

// A block sums its columns over all touched rows: lane l takes rows l, l + kGainLanes, ..., then the lanes are added in order.
__global__ void __launch_bounds__(kGainColumns* kGainLanes)
    gain_gradient(Rows r, const float* d_rows, std::int64_t d_rows_stride, float* d_gain, std::int64_t width) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kGainColumns + threadIdx.x;
  __shared__ float sums[kGainLanes][kGainColumns];
  float sum = 0;
  if (column < width) {
    const std::int64_t count = *r.count;
#pragma unroll 8
    for (std::int64_t i = threadIdx.y; i < count; i += kGainLanes) {
      sum += d_rows[i * d_rows_stride + column] * (r.row(i)[column] * r.inverse(i));
    }
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || column >= width) return;
  for (int lane = 1; lane < kGainLanes; ++lane) sum += sums[lane][threadIdx.x];
  d_gain[column] = sum;
}

__global__ void through_norm(Rows r, const float* gain, float* d_rows, std::int64_t d_rows_stride, std::int64_t width) {
  const std::int64_t i = blockIdx.x;
  if (i >= *r.count) return;
  const float* row = r.row(i);
  float* d = d_rows + i * d_rows_stride;
  const float inverse = r.inverse(i);
  float sum = 0;
  for (std::int64_t e = threadIdx.x; e < width; e += kThreads) sum += d[e] * gain[e] * row[e];
  const float dot = block_sum<kThreads>(sum) * inverse / static_cast<float>(width);
  for (std::int64_t e = threadIdx.x; e < width; e += kThreads) d[e] = inverse * (gain[e] * d[e] - row[e] * inverse * dot);
}

}  // namespace

void embedding_forward(CudaDevice& device, const EmbeddingForward& a) {
  require_operands(a.weight.dtype == DType::f32 && a.gain.dtype == DType::f32 && a.weight[1] % 8 == 0,
                   "embedding_forward: weight and gain must be f32, rows a multiple of 8 wide");
  dispatch_float(a.out.dtype, [&](auto out) {
    using Out = decltype(out);
    dispatch_row_threads(a.weight[1], [&](auto threads) {
      launch(device, "embedding_forward", look_up<threads.value, Out>, dim3(pieces(a.ids[0], 1)), dim3(threads.value), 0,
             a.ids.as<const std::int32_t>(), a.weight.as<const float>(), a.weight.row_stride, a.gain.as<const float>(),
             a.out.as<Out>(), a.out.row_stride, a.inverse_rms.as<float>(), a.weight[1]);
    });
  });
}

void embedding_rows(CudaDevice& device, const EmbeddingRows& a) {
  launch(device, "embedding_rows", list_rows, dim3(pieces(a.vocabulary, kListIds)), dim3(kListThreads),
         pieces(a.vocabulary, 32) * sizeof(unsigned), a.ids.as<const std::int32_t>(), a.ids[0], a.vocabulary,
         a.rows.as<std::int32_t>(), a.row_start.as<std::int32_t>(), a.order.as<std::int32_t>(), a.count.as<std::int32_t>());
}

void embedding_backward(CudaDevice& device, const EmbeddingBackward& a) {
  require_operands(a.d_rows.dtype == DType::f32 && a.weight[1] % 8 == 0,
                   "embedding_backward: the weights' gradient must be f32, rows a multiple of 8 wide");
  const std::int64_t width = a.weight[1], most = a.d_rows[0];
  const Rows r{a.weight.as<const float>(),           a.weight.row_stride,
               a.inverse_rms.as<const float>(),      a.rows.as<const std::int32_t>(),
               a.row_start.as<const std::int32_t>(), a.order.as<const std::int32_t>(),
               a.count.as<const std::int32_t>()};
  auto* d_rows = a.d_rows.as<float>();
  dispatch_float(a.d_out.dtype, [&](auto gradient) {
    using Gradient = decltype(gradient);
    launch(device, "embedding_backward", sum_tokens<Gradient>, dim3(pieces(most, 1)), dim3(kThreads), 0,
           a.d_out.as<const Gradient>(), a.d_out.row_stride, r.row_start, r.order, r.count, d_rows, a.d_rows.row_stride, width);
  });
  launch(device, "embedding_backward", gain_gradient, dim3(pieces(width, kGainColumns)), dim3(kGainColumns, kGainLanes), 0, r,
         d_rows, a.d_rows.row_stride, a.d_gain.as<float>(), width);
  launch(device, "embedding_backward", through_norm, dim3(pieces(most, 1)), dim3(kThreads), 0, r, a.gain.as<const float>(), d_rows,
         a.d_rows.row_stride, width);
}

}  // namespace neurogen
