#include <algorithm>
#include <cfloat>

#include "kernels/adafactor.h"
#include "kernels/cuda_kernel.cuh"
#include "kernels/loss_scale.h"

namespace neurogen {
namespace {

// The gradient is read twice: once for all statistics, once to apply it. Only in the first step, where the columns' statistics
// are the tile's own, a third time. Every sum's order depends on the shapes alone.
constexpr int kWarps = 8, kThreads = 32 * kWarps, kTotalThreads = 512;
constexpr int kWarpRows = static_cast<int>(kAdafactorStripRows) / kWarps;
static_assert(kAdafactorStripColumns == 128, "a lane takes four columns");
constexpr int kEight = 8;  // weights that share one draw

// Where the scratch holds what.
struct Scratch {
  float* column_strips;  // [row strips, O] sums of q
  float2* row_strips;    // [column strips, rows]: sum of q, sum of g^2 / col^
  float* column;         // [O] col^
  float* row;            // [rows] the row's statistic after this step
  float* row_squares;    // [rows] sum of g^2 / col^, over row: u^2 without the tile's factors
  float* scale;          // [2] what u and the rate share: rate / max(1, rms) * sqrt(mean col^ * correction) / loss scale
};

// What a block works on: its tile, blockIdx.z of those that are given together.
struct Tile {
  std::int64_t rows_of_all, tile_rows, outputs, scratch_stride;  // the last: floats from one tile's scratch to the next
  Scratch first;

  __device__ std::int64_t begin() const { return blockIdx.z * tile_rows; }
  __device__ std::int64_t rows() const { return min(tile_rows, rows_of_all - begin()); }
  __device__ Scratch scratch(unsigned tile) const {
    const std::int64_t by = tile * scratch_stride;
    return {first.column_strips + by, first.row_strips + by / 2, first.column + by, first.row + by, first.row_squares + by, first.scale + by};
  }
  __device__ Scratch scratch() const { return scratch(blockIdx.z); }
};

Scratch scratch_of(const AdafactorTiles& a) {
  const std::int64_t rows = a.tile, outputs = a.gradient[1];
  const std::int64_t row_strips = (rows + kAdafactorStripRows - 1) / kAdafactorStripRows;
  const std::int64_t column_strips = (outputs + kAdafactorStripColumns - 1) / kAdafactorStripColumns;
  float* const base = a.scratch.as<float>();
  Scratch s{};
  s.row_strips = reinterpret_cast<float2*>(base);
  s.column_strips = base + 2 * column_strips * rows;
  s.column = s.column_strips + row_strips * outputs;
  s.row = s.column + outputs;
  s.row_squares = s.row + rows;
  s.scale = s.row_squares + rows;
  return s;
}

__device__ double correction_of(double steps) { return 1 - pow(kAdafactorBeta, steps); }

__device__ std::int64_t updates_before(const StepControl* control) { return control->step - control->decoder_skips; }
__device__ bool skipped(const StepControl* control) { return (control->overflow & kDecoderOverflow) != 0; }
// Of the gradient, without its loss scale.
__device__ float4 load_unscaled(const float* gradient, float by) {
  const float4 g = load_four(gradient);
  return {g.x * by, g.y * by, g.z * by, g.w * by};
}

__device__ float square(float g) { return g * g + static_cast<float>(kAdafactorEpsilon); }

// A block takes 128 columns and 128 rows, a warp 16 of these rows, a lane four columns.
__global__ void strip_sums(const StepControl* control, const float* gradient, const float* column, Tile t) {
  const std::int64_t rows = t.rows(), outputs = t.outputs;
  const Scratch s = t.scratch();
  gradient += t.begin() * outputs;
  __shared__ float4 sums[kWarps][32];
  __shared__ float correction;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t j = blockIdx.x * kAdafactorStripColumns + 4 * lane, first = blockIdx.y * kAdafactorStripRows + warp * kWarpRows;
  const bool inside = j < outputs, later = updates_before(control) > 0;
  const float by = 1.0f / control->loss_scale;
  if (threadIdx.x == 0) correction = static_cast<float>(correction_of(static_cast<double>(updates_before(control))));
  __syncthreads();
  float4 weight = {0, 0, 0, 0};  // 1 / col^
  if (inside && later) {
    const float4 c = load_four(column + j);
    weight = {correction / c.x, correction / c.y, correction / c.z, correction / c.w};
  }
  float4 sum = {0, 0, 0, 0};
#pragma unroll 8
  for (int i = 0; i < kWarpRows; ++i) {
    const std::int64_t row = first + i;
    if (row >= rows) break;
    const float4 g = inside ? load_unscaled(gradient + row * outputs + j, by) : float4{0, 0, 0, 0};
    const float4 q = inside ? float4{square(g.x), square(g.y), square(g.z), square(g.w)} : float4{0, 0, 0, 0};
    sum = {sum.x + q.x, sum.y + q.y, sum.z + q.z, sum.w + q.w};
    const float all = warp_sum(q.x + q.y + (q.z + q.w));
    const float scaled = warp_sum(g.x * g.x * weight.x + g.y * g.y * weight.y + (g.z * g.z * weight.z + g.w * g.w * weight.w));
    if (lane == 0) s.row_strips[blockIdx.x * rows + row] = {all, scaled};
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || !inside) return;
  for (int w = 1; w < kWarps; ++w) {
    const float4 other = sums[w][lane];
    sum = {sum.x + other.x, sum.y + other.y, sum.z + other.z, sum.w + other.w};
  }
  store_four(s.column_strips + blockIdx.y * outputs + j, sum);
}

// All tiles in order: the sum goes to the columns' one total.
__global__ void finish_columns(const StepControl* control, unsigned tiles, const float* column, float* column_sum, Tile t) {
  const std::int64_t j = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (j >= t.outputs) return;
  for (unsigned tile = 0; tile < tiles; ++tile) {
    const Scratch s = t.scratch(tile);
    const std::int64_t rows = min(t.tile_rows, t.rows_of_all - tile * t.tile_rows);
    double sum = 0;
    for (std::int64_t strip = 0; strip * kAdafactorStripRows < rows; ++strip) sum += static_cast<double>(s.column_strips[strip * t.outputs + j]);
    column_sum[j] += static_cast<float>(sum);
    s.column[j] = static_cast<float>(updates_before(control) == 0
                                         ? sum / static_cast<double>(rows)
                                         : static_cast<double>(column[j]) / correction_of(static_cast<double>(updates_before(control))));
  }
}

// A warp a row.
__global__ void finish_rows(const StepControl* control, const float* gradient, std::int64_t strips, float* row_statistic, Tile t) {
  const std::int64_t rows = t.rows(), outputs = t.outputs;
  const Scratch s = t.scratch();
  gradient += t.begin() * outputs;
  row_statistic += t.begin();
  const int lane = threadIdx.x % 32;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (i >= rows || skipped(control)) return;
  double all = 0, scaled = 0;
  for (std::int64_t strip = lane; strip < strips; strip += 32) {
    const float2 sums = s.row_strips[strip * rows + i];
    all += static_cast<double>(sums.x);
    scaled += static_cast<double>(sums.y);
  }
  if (updates_before(control) == 0) {
    const float by = 1.0f / control->loss_scale;
    scaled = 0;
    for (std::int64_t j = 4 * lane; j < outputs; j += 128) {
      const float4 g = load_unscaled(gradient + i * outputs + j, by), c = load_four(s.column + j);
      scaled += static_cast<double>(g.x * g.x / c.x + g.y * g.y / c.y + (g.z * g.z / c.z + g.w * g.w / c.w));
    }
  }
  all = warp_sum(all);
  scaled = warp_sum(scaled);
  if (lane != 0) return;
  const double mean = all / static_cast<double>(outputs);
  const float row = static_cast<float>(kAdafactorBeta * static_cast<double>(row_statistic[i]) + (1 - kAdafactorBeta) * mean);
  row_statistic[i] = row;
  s.row[i] = row;
  s.row_squares[i] = static_cast<float>(scaled / static_cast<double>(row));
}

// u^2 = g^2 / col^ / row * (mean col^ * correction), so that the mean may come last. One block.
__global__ void __launch_bounds__(kTotalThreads) finish_tile(const StepControl* control, Tile t) {
  const std::int64_t rows = t.rows(), outputs = t.outputs;
  const Scratch s = t.scratch();
  double columns = 0, squares = 0;
  for (std::int64_t j = threadIdx.x; j < outputs; j += kTotalThreads) columns += static_cast<double>(s.column[j]);
  for (std::int64_t i = threadIdx.x; i < rows; i += kTotalThreads) squares += static_cast<double>(s.row_squares[i]);
  columns = block_sum<kTotalThreads>(columns);
  squares = block_sum<kTotalThreads>(squares);
  if (threadIdx.x != 0) return;
  const double shared = columns / static_cast<double>(outputs) * correction_of(static_cast<double>(updates_before(control) + 1));
  const double rms = sqrt(squares * shared / static_cast<double>(rows * outputs));
  s.scale[0] = static_cast<float>(static_cast<double>(control->decoder_learning_rate) / fmax(1.0, rms) * sqrt(shared) /
                                  static_cast<double>(control->loss_scale));
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

// A thread takes eight neighbouring weights.
template <typename Weight>
__global__ void apply(const StepControl* control, const float* gradient, std::int64_t first_row, Weight* weight,
                      std::int64_t weight_stride, Tile t) {
  const std::int64_t outputs = t.outputs, i = blockIdx.y, j = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kEight;
  if (j >= outputs || i >= t.rows() || skipped(control)) return;
  const Scratch s = t.scratch();
  gradient += t.begin() * outputs;
  first_row += t.begin();
  weight += t.begin() * weight_stride;
  const float factor = s.scale[0] / sqrtf(s.row[i]);
  std::uint32_t words[4] = {0, 0, 0, 0};
  if constexpr (sizeof(Weight) == 2) {
    const auto element = static_cast<std::uint64_t>((first_row + i) * outputs + j);
    const uint4 draw = philox_words(0, static_cast<std::uint64_t>(control->step), element / kEight);
    words[0] = draw.x, words[1] = draw.y, words[2] = draw.z, words[3] = draw.w;
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t at = j + 4 * half;
    const float4 g = load_four(gradient + i * outputs + at), c = load_four(s.column + at);
    Weight* const w = weight + i * weight_stride + at;
    const float4 old = load_four(w);
    const float4 now = {old.x - factor * g.x / sqrtf(c.x), old.y - factor * g.y / sqrtf(c.y), old.z - factor * g.z / sqrtf(c.z),
                        old.w - factor * g.w / sqrtf(c.w)};
    *reinterpret_cast<Four<Weight>*>(w) = {{rounded(Weight{}, now.x, words[2 * half] & 0xFFFF), rounded(Weight{}, now.y, words[2 * half] >> 16),
                                            rounded(Weight{}, now.z, words[2 * half + 1] & 0xFFFF),
                                            rounded(Weight{}, now.w, words[2 * half + 1] >> 16)}};
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
  require_operands(a.gradient.dtype == DType::f32 && a.gradient.contiguous() && a.row.dtype == DType::f32 && outputs % kEight == 0,
                   "adafactor_tiles: gradient and statistics are f32, rows of a multiple of 8");
  require_operands(a.tile > 0 && a.tile <= 65535, "adafactor_tiles: a tile has more than 65,535 rows: use a smaller --decoder-tile");
  const unsigned tiles = pieces(rows, a.tile), row_strips = pieces(a.tile, kAdafactorStripRows),
                 column_strips = pieces(outputs, kAdafactorStripColumns);
  require_operands(a.scratch.elements() >= tiles * adafactor_scratch(a.tile, outputs), "adafactor_tiles: too little scratch");
  const Tile t{rows, a.tile, outputs, 2 * adafactor_scratch(a.tile, outputs), scratch_of(a)};
  const auto* control = a.control.as<const StepControl>();
  const auto* gradient = a.gradient.as<const float>();
  const auto* column = a.column.as<const float>();
  const auto run = [&](auto kernel, dim3 grid, int threads, auto... arguments) {
    launch(device, "adafactor_tiles", kernel, grid, dim3(static_cast<unsigned>(threads)), 0, control, arguments..., t);
  };
  run(strip_sums, dim3(column_strips, row_strips, tiles), kThreads, gradient, column);
  run(finish_columns, dim3(pieces(outputs, kThreads)), kThreads, tiles, column, a.column_sum.as<float>());
  run(finish_rows, dim3(pieces(a.tile, kWarps), 1, tiles), kThreads, gradient, column_strips, a.row.as<float>());
  run(finish_tile, dim3(1, 1, tiles), kTotalThreads);
  dispatch_float(a.weight.dtype, [&](auto zero) {
    using Weight = decltype(zero);
    run(apply<Weight>, dim3(pieces(outputs, kThreads * kEight), static_cast<unsigned>(std::min(rows, a.tile)), tiles), kThreads, gradient,
        a.first_row, a.weight.as<Weight>(), a.weight.row_stride);
  });
}

void adafactor_finish(CudaDevice& device, const AdafactorFinish& a) {
  launch(device, "adafactor_finish", finish_all, dim3(pieces(a.column.elements(), kThreads)), dim3(kThreads), 0,
         a.control.as<const StepControl>(), a.column_sum.as<const float>(), static_cast<double>(a.vocabulary), a.column.as<float>(), a.column.elements());
}

}  // namespace neurogen
