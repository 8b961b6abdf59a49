#include <algorithm>
#include <cfloat>

#include "kernels/adafactor.h"
#include "kernels/cuda_kernel.cuh"
#include "kernels/loss_scale.h"

namespace neurogen {
namespace {

// The gradient is read twice: once for all statistics, once to apply it. Only in the first step, where the columns' statistics
// are the tile's own, a third time. Every sum's order depends on the shapes alone.
constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int kWarpRows = static_cast<int>(kAdafactorStripRows) / kWarps;
static_assert(kAdafactorStripColumns == 128, "a lane takes four columns");
static_assert(2 * kWarpRows == 32, "a lane receives one of two sums of one row");
constexpr int kEight = 8;      // weights that share one draw
constexpr int kApplyRows = 4;  // that a thread has on their way at once

// Where the scratch holds what.
struct Scratch {
  double* column_totals;  // [column blocks] sums of col^
  double* square_totals;  // [row blocks] sums of g^2 / col^ / row^: of u^2, but for mean(col^)
  float* column_strips;   // [row strips, O] sums of q
  float2* row_strips;     // [column strips, rows]: sum of q, sum of g^2 / column
  float* column;          // [O] 1 / sqrt(col^)
  float* row;             // [rows] 1 / sqrt(row^), row^ = row / (1-beta^n)
};

// What a block works on: its tile, blockIdx.z of those that are given together.
struct Tile {
  std::int64_t rows_of_all, tile_rows, outputs, scratch_stride;  // the last: floats from one tile's scratch to the next
  unsigned column_blocks, row_blocks;                            // of finish
  Scratch first;

  __device__ std::int64_t begin() const { return blockIdx.z * tile_rows; }
  __device__ std::int64_t rows(unsigned tile) const { return min(tile_rows, rows_of_all - tile * tile_rows); }
  __device__ std::int64_t rows() const { return rows(blockIdx.z); }
  __device__ Scratch scratch(unsigned tile) const {
    const std::int64_t by = tile * scratch_stride;
    return {first.column_totals + by / 2, first.square_totals + by / 2, first.column_strips + by,
            first.row_strips + by / 2,    first.column + by,            first.row + by};
  }
  __device__ Scratch scratch() const { return scratch(blockIdx.z); }
};

Tile tile_of(const AdafactorTiles& a) {
  const std::int64_t rows = a.tile, outputs = a.gradient[1];
  Tile t{a.gradient[0], rows, outputs, 2 * adafactor_scratch(rows, outputs), pieces(outputs, kThreads), pieces(rows, kWarps), {}};
  t.first.column_totals = a.scratch.as<double>();
  t.first.square_totals = t.first.column_totals + t.column_blocks;
  t.first.row_strips = reinterpret_cast<float2*>(t.first.square_totals + t.row_blocks);
  t.first.column_strips = reinterpret_cast<float*>(t.first.row_strips + pieces(outputs, kAdafactorStripColumns) * rows);
  t.first.column = t.first.column_strips + pieces(rows, kAdafactorStripRows) * outputs;
  t.first.row = t.first.column + outputs;
  return t;
}

__device__ std::int64_t updates_before(const StepControl* control) { return control->step - control->decoder_skips; }
__device__ bool skipped(const StepControl* control) { return (control->overflow & kDecoderOverflow) != 0; }
// Of the gradient, without its loss scale.
template <typename Gradient>
__device__ float4 load_unscaled(const Gradient* gradient, float by) {
  const float4 g = load_four(gradient);
  return {g.x * by, g.y * by, g.z * by, g.w * by};
}

__device__ float square(float g) { return g * g + static_cast<float>(kAdafactorEpsilon); }
// Of g^2 weight.
__device__ float sum_of_squares(float4 g, float4 weight) {
  return g.x * g.x * weight.x + g.y * g.y * weight.y + (g.z * g.z * weight.z + g.w * g.w * weight.w);
}

// A block takes 128 columns and 128 rows, a warp 16 of these rows, a lane four columns.
template <typename Gradient>
__global__ void __launch_bounds__(kThreads) strip_sums(const StepControl* control, const Gradient* gradient, const float* column, Tile t) {
  const std::int64_t rows = t.rows(), outputs = t.outputs;
  const Scratch s = t.scratch();
  __shared__ float4 sums[kWarps][32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t j = blockIdx.x * kAdafactorStripColumns + 4 * lane, first = blockIdx.y * kAdafactorStripRows + warp * kWarpRows;
  const bool inside = j < outputs;
  const float by = 1.0f / control->loss_scale;
  gradient += (t.begin() + first) * outputs + j;
  float4 weight = {0, 0, 0, 0};  // before the first update there is none yet
  if (inside && updates_before(control) > 0) {
    const float4 c = load_four(column + j);
    weight = {1 / c.x, 1 / c.y, 1 / c.z, 1 / c.w};
  }
  float4 sum = {0, 0, 0, 0};
  float of_rows[2 * kWarpRows];  // this lane's share of the rows' first sums, then of their second
#pragma unroll
  for (int i = 0; i < kWarpRows; ++i) {
    const bool present = inside && first + i < rows;
    const float4 g = present ? load_unscaled(gradient + i * outputs, by) : float4{0, 0, 0, 0};
    const float4 q = present ? float4{square(g.x), square(g.y), square(g.z), square(g.w)} : float4{0, 0, 0, 0};
    sum = {sum.x + q.x, sum.y + q.y, sum.z + q.z, sum.w + q.w};
    of_rows[i] = q.x + q.y + (q.z + q.w);
    of_rows[kWarpRows + i] = sum_of_squares(g, weight);
  }
  const float of_row = warp_sums(of_rows);  // lane by lane
  const std::int64_t row = first + lane % kWarpRows;
  if (row < rows) reinterpret_cast<float*>(s.row_strips + blockIdx.x * rows + row)[lane / kWarpRows] = of_row;
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || !inside) return;
  for (int w = 1; w < kWarps; ++w) {
    const float4 other = sums[w][lane];
    sum = {sum.x + other.x, sum.y + other.y, sum.z + other.z, sum.w + other.w};
  }
  store_four(s.column_strips + blockIdx.y * outputs + j, sum);
}

// Sum of q over a tile's rows.
__device__ double column_total(const Scratch& s, std::int64_t rows, std::int64_t outputs, std::int64_t j) {
  double sum = 0;
  for (std::int64_t strip = 0; strip * kAdafactorStripRows < rows; ++strip) sum += static_cast<double>(s.column_strips[strip * outputs + j]);
  return sum;
}

// A thread a column, all tiles in order: their sums go to the columns' one total. `correction`: 1 - beta^(n-1).
__device__ void finish_columns(const float* column, float* column_sum, double correction, const Tile& t) {
  const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const bool inside = j < t.outputs;
  float total = inside ? column_sum[j] : 0;
  for (unsigned tile = 0; tile * t.tile_rows < t.rows_of_all; ++tile) {
    const Scratch s = t.scratch(tile);
    float estimate = 0;
    if (inside) {
      const double sum = column_total(s, t.rows(tile), t.outputs, j);
      total += static_cast<float>(sum);
      estimate = static_cast<float>(correction == 0 ? sum / static_cast<double>(t.rows(tile)) : static_cast<double>(column[j]) / correction);
      s.column[j] = 1 / sqrtf(estimate);
    }
    const double all = block_sum<kThreads>(static_cast<double>(estimate));
    if (threadIdx.x == 0) s.column_totals[blockIdx.x] = all;
  }
  if (inside) column_sum[j] = total;
}

// A warp a row.
template <typename Gradient>
__device__ void finish_rows(const StepControl* control, const Gradient* gradient, float* row_statistic, double correction, const Tile& t) {
  const std::int64_t rows = t.rows(), outputs = t.outputs;
  const Scratch s = t.scratch();
  const int lane = threadIdx.x % 32;
  const unsigned block = blockIdx.x - t.column_blocks;
  const std::int64_t i = static_cast<std::int64_t>(block) * kWarps + threadIdx.x / 32;
  double all = 0, squares = 0;
  if (i < rows) {
    for (std::int64_t strip = lane; strip * kAdafactorStripColumns < outputs; strip += 32) {
      const float2 sums = s.row_strips[strip * rows + i];
      all += static_cast<double>(sums.x);
      squares += static_cast<double>(sums.y);
    }
    squares *= correction;
    if (correction == 0) {
      const float by = 1.0f / control->loss_scale;
      for (std::int64_t j = 4 * lane; j < outputs; j += 128) {
        const auto weight = [&](int k) { return static_cast<float>(static_cast<double>(rows) / column_total(s, rows, outputs, j + k)); };
        const float4 g = load_unscaled(gradient + (t.begin() + i) * outputs + j, by);
        squares += static_cast<double>(sum_of_squares(g, {weight(0), weight(1), weight(2), weight(3)}));
      }
    }
    all = warp_sum(all);
    squares = warp_sum(squares);
  }
  if (lane == 0 && i < rows) {
    float& statistic = row_statistic[t.begin() + i];
    statistic = static_cast<float>(kAdafactorBeta * static_cast<double>(statistic) + (1 - kAdafactorBeta) * (all / static_cast<double>(outputs)));
    const double estimate = static_cast<double>(statistic) / (1 - kAdafactorBeta * (1 - correction));
    s.row[i] = 1 / sqrtf(static_cast<float>(estimate));
    squares /= estimate;
  }
  const double total = block_sum<kThreads>(lane == 0 ? squares : 0.0);
  if (threadIdx.x == 0) s.square_totals[block] = total;
}

// Blocks for the columns, of all tiles; then blocks for the rows, of the block's tile.
template <typename Gradient>
__global__ void __launch_bounds__(kThreads) finish(const StepControl* control, const Gradient* gradient, const float* column, float* column_sum,
                                                   float* row_statistic, Tile t) {
  if (skipped(control)) return;
  __shared__ double correction;
  if (threadIdx.x == 0) correction = 1 - pow(kAdafactorBeta, static_cast<double>(updates_before(control)));
  __syncthreads();
  if (blockIdx.x >= t.column_blocks) finish_rows(control, gradient, row_statistic, correction, t);
  else if (blockIdx.z == 0) finish_columns(column, column_sum, correction, t);
}

__device__ float rounded(float, float x, std::uint32_t) { return x; }

// The upper half of a float32 is a bf16: adding up to one unit of its last place and cutting off goes up as often as is due.
__device__ __nv_bfloat16 rounded(__nv_bfloat16, float x, std::uint32_t random) {
  if (!isfinite(x)) return __float2bfloat16_rn(x);
  return __ushort_as_bfloat16(static_cast<unsigned short>((__float_as_uint(x) + random) >> 16));
}

// f16 keeps 10 bits of mantissa, and steps of 2^-24 below 2^-14.
__device__ __half rounded(__half, float x, std::uint32_t random) {
  const float magnitude = fabsf(x);
  const float up = magnitude < 0x1p-14f ? magnitude + static_cast<float>(random) * 0x1p-40f
                                        : __uint_as_float(__float_as_uint(magnitude) + (random >> 3));
  return __float2half_rz(copysignf(isfinite(x) ? up : magnitude, x));
}

template <typename T>
struct alignas(16) Eight {
  T at[kEight];
};

// A thread takes eight neighbouring weights of a few rows.
template <typename Gradient, typename Weight>
__global__ void __launch_bounds__(kThreads) apply(const StepControl* control, const Gradient* gradient, std::int64_t first_row, Weight* weight,
                                                  std::int64_t weight_stride, Tile t) {
  if (skipped(control)) return;
  const std::int64_t rows = t.rows(), outputs = t.outputs, first = static_cast<std::int64_t>(blockIdx.y) * kApplyRows,
                     j = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kEight;
  const Scratch s = t.scratch();
  const auto present = [&](int i) { return j < outputs && first + i < rows; };
  gradient += (t.begin() + first) * outputs + j;
  weight += (t.begin() + first) * weight_stride + j;
  Eight<Gradient> g[kApplyRows];
  Eight<Weight> w[kApplyRows];
#pragma unroll
  for (int i = 0; i < kApplyRows; ++i)
    if (present(i)) {
      g[i] = *reinterpret_cast<const Eight<Gradient>*>(gradient + i * outputs);
      w[i] = *reinterpret_cast<const Eight<Weight>*>(weight + i * weight_stride);
    }

  double columns = 0, squares = 0;
  for (unsigned k = threadIdx.x; k < t.column_blocks; k += kThreads) columns += s.column_totals[k];
  for (unsigned k = threadIdx.x; k * kWarps < rows; k += kThreads) squares += s.square_totals[k];
  const float mean = static_cast<float>(block_sum<kThreads>(columns)) / static_cast<float>(outputs);
  const float rms = sqrtf(static_cast<float>(block_sum<kThreads>(squares)) / static_cast<float>(rows * outputs) * mean);
  const float scale = control->decoder_learning_rate / fmaxf(1, rms) * sqrtf(mean) / control->loss_scale;

  float by_column[kEight];
#pragma unroll
  for (int k = 0; k < kEight; ++k) by_column[k] = j < outputs ? scale * s.column[j + k] : 0;
#pragma unroll
  for (int i = 0; i < kApplyRows; ++i) {
    if (!present(i)) return;
    const float by_row = s.row[first + i];
    std::uint32_t words[4] = {0, 0, 0, 0};
    if constexpr (sizeof(Weight) == 2) {
      const auto element = static_cast<std::uint64_t>((first_row + t.begin() + first + i) * outputs + j);
      const uint4 draw = philox_words(0, static_cast<std::uint64_t>(control->step), element / kEight);
      words[0] = draw.x, words[1] = draw.y, words[2] = draw.z, words[3] = draw.w;
    }
#pragma unroll
    for (int k = 0; k < kEight; ++k) {
      const float now = to_float(w[i].at[k]) - by_row * by_column[k] * to_float(g[i].at[k]);
      w[i].at[k] = rounded(Weight{}, now, k % 2 == 0 ? words[k / 2] & 0xFFFF : words[k / 2] >> 16);
    }
    *reinterpret_cast<Eight<Weight>*>(weight + i * weight_stride) = w[i];
  }
}

__global__ void finish_all(const StepControl* control, const float* column_sum, double vocabulary, float* column, std::int64_t outputs) {
  const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (j >= outputs || skipped(control)) return;
  const double mean = static_cast<double>(column_sum[j]) / vocabulary;
  column[j] = static_cast<float>(kAdafactorBeta * static_cast<double>(column[j]) + (1 - kAdafactorBeta) * mean);
}

}  // namespace

void adafactor_tiles(CudaDevice& device, const AdafactorTiles& a) {
  const std::int64_t rows = a.gradient[0], outputs = a.gradient[1];
  require_operands(a.gradient.contiguous() && a.row.dtype == DType::f32 && outputs % kEight == 0,
                   "adafactor_tiles: the gradient is contiguous, rows of a multiple of 8, statistics are f32");
  require_operands(a.tile > 0 && a.tile <= 65535, "adafactor_tiles: a tile has more than 65,535 rows: use a smaller --decoder-tile");
  const unsigned tiles = pieces(rows, a.tile);
  require_operands(a.scratch.elements() >= tiles * adafactor_scratch(a.tile, outputs), "adafactor_tiles: too little scratch");
  const Tile t = tile_of(a);
  const auto* control = a.control.as<const StepControl>();
  const auto* column = a.column.as<const float>();
  const auto run = [&](auto kernel, unsigned x, unsigned y, auto... arguments) {
    launch(device, "adafactor_tiles", kernel, dim3(x, y, tiles), dim3(kThreads), 0, control, arguments..., t);
  };
  const auto with_gradient = [&]<typename Gradient>(const Gradient* gradient) {
    run(strip_sums<Gradient>, pieces(outputs, kAdafactorStripColumns), pieces(a.tile, kAdafactorStripRows), gradient, column);
    run(finish<Gradient>, t.column_blocks + t.row_blocks, 1, gradient, column, a.column_sum.as<float>(), a.row.as<float>());
    dispatch_float(a.weight.dtype, [&](auto zero) {
      using Weight = decltype(zero);
      run(apply<Gradient, Weight>, pieces(outputs, kThreads * kEight), pieces(a.tile, kApplyRows), gradient, a.first_row, a.weight.as<Weight>(),
          a.weight.row_stride);
    });
  };
  if (a.gradient.dtype == DType::f32) return with_gradient(a.gradient.as<const float>());
  require_operands(a.gradient.dtype == DType::bf16, "adafactor_tiles: the gradient is f32 or bf16");
  with_gradient(a.gradient.as<const __nv_bfloat16>());
}

void adafactor_finish(CudaDevice& device, const AdafactorFinish& a) {
  launch(device, "adafactor_finish", finish_all, dim3(pieces(a.column.elements(), kThreads)), dim3(kThreads), 0,
         a.control.as<const StepControl>(), a.column_sum.as<const float>(), static_cast<double>(a.vocabulary), a.column.as<float>(), a.column.elements());
}

}  // namespace neurogen
