#include "kernels/cuda_kernel.cuh"
#include "kernels/embedding.h"
#include "kernels/rms_norm.h"

namespace neurogen {
namespace {

constexpr int kThreads = 256;
constexpr int kScanThreads = 1024;
constexpr int kGainColumns = 8, kGainLanes = 128;  // of d_gain that one block sums, and rows it takes at a time

template <typename Out>
__global__ void look_up(const std::int32_t* ids, const float* weight, std::int64_t weight_stride, const float* gain, Out* out,
                        std::int64_t out_stride, float* inverse_rms, std::int64_t width) {
  const std::int64_t n = blockIdx.x;
  rms_normalise_row<kThreads>(weight + ids[n] * weight_stride, gain, out + n * out_stride, inverse_rms + n, width,
                              static_cast<float>(kRmsEpsilon));
}

__global__ void count_ids(const std::int32_t* ids, std::int64_t tokens, std::int32_t* histogram) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (n < tokens) atomicAdd(&histogram[ids[n]], 1);  // whole numbers: any order gives the same sum
}

// Touched ids (in the upper half) and tokens (in the lower), so that one sum serves both.
using Counts = unsigned long long;

// Sums over a block of kScanThreads: of those before this thread, and of all.
struct Scan {
  Counts before, all;
};
__device__ Scan scan_block(Counts x) {
  __shared__ Counts sums[kScanThreads / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Counts inclusive = x;
  for (int step = 1; step < 32; step *= 2) {
    const Counts other = __shfl_up_sync(0xFFFFFFFFu, inclusive, step);
    if (lane >= step) inclusive += other;
  }
  __syncthreads();
  if (lane == 31) sums[warp] = inclusive;
  __syncthreads();
  Scan result{inclusive - x, 0};
#pragma unroll 4
  for (int w = 0; w < kScanThreads / 32; ++w) {
    if (w == warp) result.before += result.all;
    result.all += sums[w];
  }
  return result;
}

// One block, which goes through the vocabulary. The histogram becomes each id's first place in `order`.
__global__ void __launch_bounds__(kScanThreads) list_rows(std::int32_t* histogram, std::int64_t vocabulary, std::int64_t tokens, std::int32_t* rows,
                          std::int32_t* row_start, std::int32_t* count) {
  constexpr int kIds = 4;  // of a thread at a time
  Counts passed = 0;
  for (std::int64_t first = 0; first < vocabulary; first += kIds * kScanThreads) {
    const std::int64_t v = first + kIds * threadIdx.x;
    int here[kIds];
    Counts mine = 0;
#pragma unroll
    for (int k = 0; k < kIds; ++k) {
      here[k] = v + k < vocabulary ? histogram[v + k] : 0;
      mine += (here[k] > 0 ? Counts{1} << 32 : 0) + static_cast<Counts>(here[k]);
    }
    const Scan sum = scan_block(mine);
    auto row = static_cast<std::int32_t>((passed + sum.before) >> 32), position = static_cast<std::int32_t>(passed + sum.before);
#pragma unroll
    for (int k = 0; k < kIds; ++k) {
      if (v + k < vocabulary) histogram[v + k] = position;
      if (here[k] == 0) continue;
      rows[row] = static_cast<std::int32_t>(v + k);
      row_start[row++] = position;
      position += here[k];
    }
    passed += sum.all;
  }
  if (threadIdx.x == 0) {
    *count = static_cast<std::int32_t>(passed >> 32);
    row_start[passed >> 32] = static_cast<std::int32_t>(tokens);
  }
}

// One warp a token, which counts the equal ids before it: its place within the id's group, in the order of the tokens.
__global__ void place_tokens(const std::int32_t* ids, std::int64_t tokens, const std::int32_t* places, std::int32_t* order) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * (kThreads / 32) + threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  if (n >= tokens) return;
  const std::int32_t id = ids[n];
  int before = 0;
#pragma unroll 8
  for (std::int64_t i = lane; i < n; i += 32) before += ids[i] == id;
  before = warp_sum(before);
  if (lane == 0) order[places[id] + before] = static_cast<std::int32_t>(n);
}

// All tokens of a row share its x^ and its rms, and the way back through the norm is linear: sum first, go back once.
// One block a touched row; those behind the last leave at once.
template <typename Gradient>
__global__ void sum_tokens(const Gradient* d_out, std::int64_t d_stride, const std::int32_t* row_start, const std::int32_t* order,
                           const std::int32_t* count, float* d_rows, std::int64_t d_rows_stride, std::int64_t width) {
  const std::int64_t i = blockIdx.x;
  if (i >= *count) return;
  const int begin = row_start[i], end = row_start[i + 1];
  for (std::int64_t e = 4 * threadIdx.x; e < width; e += 4 * kThreads) {
    float4 sum = {0, 0, 0, 0};
#pragma unroll 4
    for (int n = begin; n < end; ++n) {
      const float4 d = load_four(d_out + order[n] * d_stride + e);
      sum = {sum.x + d.x, sum.y + d.y, sum.z + d.z, sum.w + d.w};
    }
    store_four(d_rows + i * d_rows_stride + e, sum);
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
__global__ void __launch_bounds__(kGainColumns * kGainLanes) gain_gradient(Rows r, const float* d_rows, std::int64_t d_rows_stride, float* d_gain, std::int64_t width) {
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
  require_operands(a.weight.dtype == DType::f32 && a.gain.dtype == DType::f32 && a.weight[1] % 4 == 0,
                   "embedding_forward: weight and gain are f32, rows of a multiple of 4");
  dispatch_float(a.out.dtype, [&](auto out) {
    using Out = decltype(out);
    launch(device, "embedding_forward", look_up<Out>, dim3(pieces(a.ids[0], 1)), dim3(kThreads), 0, a.ids.as<const std::int32_t>(),
           a.weight.as<const float>(), a.weight.row_stride, a.gain.as<const float>(), a.out.as<Out>(), a.out.row_stride,
           a.inverse_rms.as<float>(), a.weight[1]);
  });
}

void embedding_rows(CudaDevice& device, const EmbeddingRows& a) {
  const std::int64_t tokens = a.ids[0], vocabulary = a.histogram[0] - 1;
  const auto* ids = a.ids.as<const std::int32_t>();
  auto* histogram = a.histogram.as<std::int32_t>();
  require_cuda(cudaMemsetAsync(histogram, 0, static_cast<std::size_t>(vocabulary) * sizeof(std::int32_t), stream_of(device)),
               "embedding_rows");
  launch(device, "embedding_rows", count_ids, dim3(pieces(tokens, kThreads)), dim3(kThreads), 0, ids, tokens, histogram);
  launch(device, "embedding_rows", list_rows, dim3(1), dim3(kScanThreads), 0, histogram, vocabulary, tokens,
         a.rows.as<std::int32_t>(), a.row_start.as<std::int32_t>(), a.count.as<std::int32_t>());
  launch(device, "embedding_rows", place_tokens, dim3(pieces(tokens, kThreads / 32)), dim3(kThreads), 0, ids, tokens, histogram,
         a.order.as<std::int32_t>());
}

void embedding_backward(CudaDevice& device, const EmbeddingBackward& a) {
  require_operands(a.d_rows.dtype == DType::f32 && a.weight[1] % 4 == 0,
                   "embedding_backward: the weights' gradient is f32, rows of a multiple of 4");
  const std::int64_t width = a.weight[1], most = a.d_rows[0];
  const Rows r{a.weight.as<const float>(),           a.weight.row_stride,           a.inverse_rms.as<const float>(),
               a.rows.as<const std::int32_t>(),      a.row_start.as<const std::int32_t>(),
               a.order.as<const std::int32_t>(),     a.count.as<const std::int32_t>()};
  auto* d_rows = a.d_rows.as<float>();
  dispatch_float(a.d_out.dtype, [&](auto gradient) {
    using Gradient = decltype(gradient);
    launch(device, "embedding_backward", sum_tokens<Gradient>, dim3(pieces(most, 1)), dim3(kThreads), 0, a.d_out.as<const Gradient>(),
           a.d_out.row_stride, r.row_start, r.order, r.count, d_rows, a.d_rows.row_stride, width);
  });
  launch(device, "embedding_backward", gain_gradient, dim3(pieces(width, kGainColumns)), dim3(kGainColumns, kGainLanes), 0, r, d_rows,
         a.d_rows.row_stride, a.d_gain.as<float>(), width);
  launch(device, "embedding_backward", through_norm, dim3(pieces(most, 1)), dim3(kThreads), 0, r, a.gain.as<const float>(), d_rows,
         a.d_rows.row_stride, width);
}

}  // namespace neurogen
