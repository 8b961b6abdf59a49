#include "kernels/adafactor_cuda.cuh"
#include "kernels/base/stochastic_rounding.cuh"
#include "kernels/loss_scale.h"

namespace neurogen {
namespace {

// The gradient is read twice: once for all statistics, once to apply it. In the first step it is read a third time, since the
// columns' statistics are the tile's own. The order of every sum depends only on the shapes.
constexpr int kWarps = kAdafactorWarps, kThreads = kAdafactorThreads;
constexpr int kWarpRows = static_cast<int>(kAdafactorStripRows) / kWarps;
constexpr int kEight = 8;  // neighbours that a thread takes, and weights that share one draw
static_assert(kAdafactorStripColumns == 32 * kEight && kAdafactorStripColumns == kThreads);
static_assert(2 * kWarpRows == 32, "a lane receives one of two sums of one row");
constexpr int kApplyRows = 2;  // rows that a thread loads at once

__device__ std::int64_t updates_before(const StepControl* control) { return control->step - control->decoder_skips; }
__device__ bool skipped(const StepControl* control) { return (control->overflow & kDecoderOverflow) != 0; }
// Factor that removes the loss scale from the squared gradient.
__device__ double unscaled(const StepControl* control) {
  const double by = 1 / static_cast<double>(control->loss_scale);
  return by * by;
}

// A block takes 256 columns and 128 rows, a warp 16 of these rows, a lane eight columns.
template <typename Gradient>
__global__ void __launch_bounds__(kThreads)
    strip_sums(const StepControl* control, const Gradient* gradient, const float* column, AdafactorTile t) {
  const std::int64_t rows = t.rows(), outputs = t.outputs;
  const AdafactorScratch s = t.scratch();
  __shared__ Eight<float> sums[kWarps][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t j = blockIdx.x * kAdafactorStripColumns + kEight * lane,
                     first = blockIdx.y * kAdafactorStripRows + warp * kWarpRows;
  const bool inside = j < outputs;
  const int count = inside ? static_cast<int>(min(rows - first, static_cast<std::int64_t>(kWarpRows))) : 0;
  if (blockIdx.x == 0 && blockIdx.y == 0 && blockIdx.z == 0 && threadIdx.x == 0) {
    *s.done = 0;
    *s.correction = 1 - pow(kAdafactorBeta, static_cast<double>(updates_before(control)));
  }
  gradient += (t.begin() + first) * outputs + j;
  Eight<float> sum{}, weight{};  // weight: 1 / column; 0 before the first update
  float of_rows[2 * kWarpRows];  // this lane's share of the rows' first sums, then of their second sums
  constexpr int kBatch = 8;      // rows loaded at once
#pragma unroll
  for (int begin = 0; begin < kWarpRows; begin += kBatch) {
    Eight<Gradient> g[kBatch] = {};
#pragma unroll
    for (int i = 0; i < kBatch; ++i)
      if (begin + i < count) g[i] = load_eight(gradient + (begin + i) * outputs);
    if (begin == 0 && inside && updates_before(control) > 0) {
      const float by = static_cast<float>(unscaled(control));
      const Eight<float> c = load_eight(column + j);
#pragma unroll
      for (int k = 0; k < kEight; ++k) weight.at[k] = by / c.at[k];
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      float all = 0, weighted = 0;
#pragma unroll
      for (int k = 0; k < kEight; ++k) {
        const float x = to_float(g[i].at[k]), square = x * x;
        sum.at[k] += square;
        all += square;
        weighted += square * weight.at[k];
      }
      of_rows[begin + i] = all;
      of_rows[kWarpRows + begin + i] = weighted;
    }
  }
  const float of_row = warp_sums(of_rows);  // one sum per lane
  const std::int64_t row = first + lane % kWarpRows;
  if (row < rows) reinterpret_cast<float*>(s.row_strips + blockIdx.x * rows + row)[lane / kWarpRows] = of_row;
  sums[warp][lane] = sum;
  __syncthreads();
  const std::int64_t mine = blockIdx.x * kAdafactorStripColumns + threadIdx.x;
  if (mine >= outputs) return;
  float total = 0;
  for (int w = 0; w < kWarps; ++w) total += sums[w][threadIdx.x / kEight].at[threadIdx.x % kEight];
  s.column_strips[blockIdx.y * outputs + mine] = total;
}

// Sum of q over a tile's rows.
__device__ double column_total(const AdafactorScratch& s, double by, std::int64_t rows, std::int64_t outputs, std::int64_t j) {
  constexpr int kBatch = 10;
  double sum = 0;
  for (std::int64_t begin = 0; begin * kAdafactorStripRows < rows; begin += kBatch) {
    float strips[kBatch] = {};
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
      if ((begin + k) * kAdafactorStripRows < rows) strips[k] = s.column_strips[(begin + k) * outputs + j];
#pragma unroll
    for (int k = 0; k < kBatch; ++k) sum += static_cast<double>(strips[k]);
  }
  return sum * by + static_cast<double>(rows) * kAdafactorEpsilon;
}

// Each thread takes one column and adds its sums over all tiles, in order, to the column's total.
__device__ void finish_columns(const float* column, float* column_sum, double by, double correction, const AdafactorTile& t,
                               unsigned block) {
  const std::int64_t j = static_cast<std::int64_t>(block) * kThreads + threadIdx.x;
  const bool inside = j < t.outputs;
  float total = inside ? column_sum[j] : 0;
  for (unsigned tile = 0; t.begin(tile) < t.rows_of_all; ++tile) {
    const AdafactorScratch s = t.scratch(tile);
    float estimate = 0;
    if (inside) {
      const double sum = column_total(s, by, t.rows(tile), t.outputs, j);
      total += static_cast<float>(sum);
      estimate = static_cast<float>(correction == 0 ? sum / static_cast<double>(t.rows(tile))
                                                    : static_cast<double>(column[j]) / correction);
      s.column[j] = 1 / sqrtf(estimate);
    }
    const double all = block_sum<kThreads>(static_cast<double>(estimate));
    if (threadIdx.x == 0) s.column_totals[block] = all;
  }
  if (inside) column_sum[j] = total;
}

// Each warp takes one row of a tile.
template <typename Gradient>
__device__ void finish_rows(const Gradient* gradient, float* row_statistic, double by, double correction, const AdafactorTile& t,
                            unsigned tile, unsigned block) {
  const std::int64_t rows = t.rows(tile), outputs = t.outputs;
  const AdafactorScratch s = t.scratch(tile);
  const int lane = threadIdx.x % 32;
  const std::int64_t i = static_cast<std::int64_t>(block) * kWarps + threadIdx.x / 32;
  double squares = 0;
  if (i < rows) {
    float& statistic = row_statistic[t.begin(tile) + i];
    const auto before = static_cast<double>(statistic);
    double all = 0;
    for (std::int64_t strip = lane; strip * kAdafactorStripColumns < outputs; strip += 32) {
      const float2 sums = s.row_strips[strip * rows + i];
      all += static_cast<double>(sums.x);
      squares += static_cast<double>(sums.y);
    }
    squares *= correction;
    if (correction == 0) {
      for (std::int64_t j = lane; j < outputs; j += 32) {
        const auto g = static_cast<double>(to_float(gradient[(t.begin(tile) + i) * outputs + j]));
        squares += g * g * by * static_cast<double>(rows) / column_total(s, by, rows, outputs, j);
      }
    }
    all = warp_sum(all) * by / static_cast<double>(outputs) + kAdafactorEpsilon;
    squares = warp_sum(squares);
    const auto now = static_cast<float>(kAdafactorBeta * before + (1 - kAdafactorBeta) * all);
    const double estimate = static_cast<double>(now) / (1 - kAdafactorBeta * (1 - correction));
    squares /= estimate;
    if (lane == 0) statistic = now, s.row[i] = 1 / sqrtf(static_cast<float>(estimate));
  }
  const double total = block_sum<kThreads>(lane == 0 ? squares : 0.0);
  if (threadIdx.x == 0) s.square_totals[block] = total;
}

// Runs on one warp, from the totals of other blocks.
__device__ void finish_tile(const StepControl* control, const AdafactorTile& t, unsigned tile) {
  const AdafactorScratch s = t.scratch(tile);
  const std::int64_t rows = t.rows(tile);
  const unsigned lane = threadIdx.x % 32;
  double columns = 0, squares = 0;
#pragma unroll 4
  for (unsigned k = lane; k < t.column_blocks; k += 32) columns += __ldcg(s.column_totals + k);
#pragma unroll 4
  for (unsigned k = lane; k * kWarps < rows; k += 32) squares += __ldcg(s.square_totals + k);
  const double mean = warp_sum(columns) / static_cast<double>(t.outputs);
  const double rms = sqrt(warp_sum(squares) * mean / static_cast<double>(rows * t.outputs));
  if (lane == 0) {
    *s.scale = static_cast<float>(static_cast<double>(control->decoder_learning_rate) / fmax(1.0, rms) * sqrt(mean) /
                                  static_cast<double>(control->loss_scale));
  }
}

// Blocks for the columns of all tiles come first, then blocks for each tile's rows. The last block to end finishes the tiles.
template <typename Gradient>
__global__ void __launch_bounds__(kThreads) finish(const StepControl* control, const Gradient* gradient, const float* column,
                                                   float* column_sum, float* row_statistic, AdafactorTile t) {
  const double correction = *t.first.correction, by = unscaled(control);
  if (skipped(control)) return;
  const unsigned tiles = (gridDim.x - t.column_blocks) / t.row_blocks;
  if (blockIdx.x < t.column_blocks) {
    finish_columns(column, column_sum, by, correction, t, blockIdx.x);
  } else {
    const unsigned block = blockIdx.x - t.column_blocks;
    finish_rows(gradient, row_statistic, by, correction, t, block / t.row_blocks, block % t.row_blocks);
  }
  __shared__ bool last;
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicAdd(t.first.done, 1) == gridDim.x - 1;
    __threadfence();
  }
  __syncthreads();
  if (!last) return;
  for (unsigned tile = threadIdx.x / 32; tile < tiles; tile += kWarps) finish_tile(control, t, tile);
}

// Each thread takes eight neighbouring weights of a few rows.
template <typename Gradient, typename Weight>
__global__ void __launch_bounds__(kThreads) apply(const StepControl* control, const Gradient* gradient, std::int64_t first_row,
                                                  Weight* weight, std::int64_t weight_stride, AdafactorTile t) {
  const std::int64_t rows = t.rows(), outputs = t.outputs, first = static_cast<std::int64_t>(blockIdx.y) * kApplyRows,
                     j = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kEight;
  if (j >= outputs) return;
  const AdafactorScratch s = t.scratch();
  gradient += (t.begin() + first) * outputs + j;
  weight += (t.begin() + first) * weight_stride + j;
  Eight<Gradient> g[kApplyRows];
  Eight<Weight> w[kApplyRows];
#pragma unroll
  for (int i = 0; i < kApplyRows; ++i)
    if (first + i < rows) {
      g[i] = load_eight(gradient + i * outputs);
      w[i] = load_eight(weight + i * weight_stride);
    }
  if (skipped(control)) return;
  const Eight<float> by_column = load_eight(s.column + j);
#pragma unroll
  for (int i = 0; i < kApplyRows; ++i) {
    if (first + i >= rows) return;
    const float by_row = *s.scale * s.row[first + i];
    std::uint32_t words[4] = {0, 0, 0, 0};
    if constexpr (sizeof(Weight) == 2) {
      const auto element = static_cast<std::uint64_t>((first_row + t.begin() + first + i) * outputs + j);
      const uint4 draw = philox_words(0, static_cast<std::uint64_t>(control->step), element / kEight);
      words[0] = draw.x, words[1] = draw.y, words[2] = draw.z, words[3] = draw.w;
    }
#pragma unroll
    for (int k = 0; k < kEight; ++k) {
      const float now = to_float(w[i].at[k]) - by_row * by_column.at[k] * to_float(g[i].at[k]);
      w[i].at[k] = rounded(Weight{}, now, k % 2 == 0 ? words[k / 2] & 0xFFFF : words[k / 2] >> 16);
    }
    *reinterpret_cast<Eight<Weight>*>(weight + i * weight_stride) = w[i];
  }
}

__global__ void finish_all(const StepControl* control, const float* column_sum, double vocabulary, float* column,
                           std::int64_t outputs) {
  const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (j >= outputs || skipped(control)) return;
  const double mean = static_cast<double>(column_sum[j]) / vocabulary;
  column[j] = static_cast<float>(kAdafactorBeta * static_cast<double>(column[j]) + (1 - kAdafactorBeta) * mean);
}

}  // namespace

void adafactor_tiles(CudaDevice& device, const AdafactorTiles& a) {
  const std::int64_t rows = a.gradient[0], outputs = a.gradient[1];
  require_operands(a.gradient.contiguous() && a.row.dtype == DType::f32 && outputs % kEight == 0,
                   "adafactor_tiles: the gradient must be contiguous, its rows a multiple of 8 wide, and statistics f32");
  require_operands(a.tile > 0 && a.tile <= 65535, "adafactor_tiles: a tile has more than 65,535 rows: use a smaller tile");
  const unsigned tiles = pieces(rows, a.tile);
  require_operands(a.scratch.elements() >= tiles * adafactor_scratch(a.tile, outputs), "adafactor_tiles: too little scratch");
  const AdafactorTile t = tile_of(a);
  const auto* control = a.control.as<const StepControl>();
  const auto* column = a.column.as<const float>();
  const auto run = [&](auto kernel, dim3 grid, auto... arguments) {
    launch(device, "adafactor_tiles", kernel, grid, dim3(kThreads), 0, control, arguments..., t);
  };
  const auto with_gradient = [&]<typename Gradient>(const Gradient* gradient) {
    run(strip_sums<Gradient>, dim3(pieces(outputs, kAdafactorStripColumns), pieces(a.tile, kAdafactorStripRows), tiles), gradient,
        column);
    run(finish<Gradient>, dim3(t.column_blocks + tiles * t.row_blocks), gradient, column, a.column_sum.as<float>(),
        a.row.as<float>());
    dispatch_float(a.weight.dtype, [&](auto zero) {
      using Weight = decltype(zero);
      run(apply<Gradient, Weight>, dim3(pieces(outputs, kThreads * kEight), pieces(a.tile, kApplyRows), tiles), gradient,
          a.first_row, a.weight.as<Weight>(), a.weight.row_stride);
    });
  };
  if (a.gradient.dtype == DType::f32) return with_gradient(a.gradient.as<const float>());
  require_operands(a.gradient.dtype == DType::bf16, "adafactor_tiles: the gradient must be f32 or bf16");
  with_gradient(a.gradient.as<const __nv_bfloat16>());
}

void adafactor_finish(CudaDevice& device, const AdafactorFinish& a) {
  launch(device, "adafactor_finish", finish_all, dim3(pieces(a.column.elements(), kThreads)), dim3(kThreads), 0,
         a.control.as<const StepControl>(), a.column_sum.as<const float>(), static_cast<double>(a.vocabulary), a.column.as<float>(),
         a.column.elements());
}

}  // namespace neurogen
