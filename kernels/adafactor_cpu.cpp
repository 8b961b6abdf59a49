#include <algorithm>
#include <cmath>

#include "kernels/adafactor.h"
#include "kernels/base/dispatch.h"
#include "kernels/base/vector_math.h"
#include "kernels/loss_scale.h"

namespace neurogen {
namespace {

constexpr std::int64_t kRows = 64;       // rows that one thread takes at a time: a block, with its own column sums
constexpr std::int64_t kColumns = 1024;  // columns that one thread takes at a time

std::int64_t blocks(std::int64_t tile) { return (tile + kRows - 1) / kRows; }

// The scratch of one tile, all f64.
struct Scratch {
  double* row_factor;     // [tile]: u = g * row_factor * column_factor
  double* row_squares;    // [tile]: sum of u^2
  double* column_factor;  // [O]: 1 / sqrt(col^)
  double* column_sums;    // [blocks, O]: sum of q over a block's rows

  Scratch(const TensorView& view, std::int64_t tile, std::int64_t outputs)
      : row_factor(view.as<double>()),
        row_squares(row_factor + tile),
        column_factor(row_squares + tile),
        column_sums(column_factor + outputs) {}
};

template <typename Real>
NEUROGEN_INLINE double squared(Real g) {
  return static_cast<double>(g) * g + kAdafactorEpsilon;
}

template <typename Real>
NEUROGEN_CLONES void add_row(const Real* g, Real by, double* column_sums, double* row_mean, std::int64_t outputs) {
  *row_mean =
      sum_over<double>(outputs, [=](std::int64_t o) NEUROGEN_LAMBDA { return squared(g[o] * by); }) / static_cast<double>(outputs);
#pragma omp simd
  for (std::int64_t o = 0; o < outputs; ++o) column_sums[o] += squared(g[o] * by);
}

// Sum of (g factor)^2.
template <typename Real>
NEUROGEN_CLONES void weighted_squares(const Real* g, const double* factor, double* sum, std::int64_t outputs) {
  *sum = sum_over<double>(outputs, [=](std::int64_t o) NEUROGEN_LAMBDA {
    const double u = static_cast<double>(g[o]) * factor[o];
    return u * u;
  });
}

template <typename Real>
NEUROGEN_CLONES void update_row(const Real* g, double scale, const double* factor, Real* weight, std::int64_t outputs) {
#pragma omp simd
  for (std::int64_t o = 0; o < outputs; ++o) weight[o] -= static_cast<Real>(scale * (static_cast<double>(g[o]) * factor[o]));
}

double sum_of(const double* x, std::int64_t n) {
  return sum_over<double>(n, [=](std::int64_t i) NEUROGEN_LAMBDA { return x[i]; });
}

template <typename Real>
void tile_update(CpuDevice& device, const AdafactorTiles& a) {
  const std::int64_t tile = a.gradient[0], outputs = a.gradient[1];
  const StepControl& control = step_control(a.control);
  if ((control.overflow & kDecoderOverflow) != 0) return;
  // `step`: number of earlier updates; `by` removes the loss scale from the squared gradient.
  const double step = static_cast<double>(control.step - control.decoder_skips), rate = control.decoder_learning_rate;
  const Real by = Real(1) / static_cast<Real>(control.loss_scale);
  const Scratch s(a.scratch, tile, outputs);
  const auto gradient = [&](std::int64_t row) { return a.gradient.as<const Real>() + row * a.gradient.row_stride; };

  // The rows' statistics, including this step; the columns' sums, block by block.
  parallel_pieces(device, tile, kRows, [&](std::int64_t begin, std::int64_t end, int) {
    double* const sums = s.column_sums + begin / kRows * outputs;
    std::fill(sums, sums + outputs, 0.0);
    for (std::int64_t row = begin; row < end; ++row) {
      double mean;
      add_row<Real>(gradient(row), by, sums, &mean, outputs);
      Real& statistic = a.row.as<Real>()[row];
      statistic = static_cast<Real>(kAdafactorBeta * statistic + (1 - kAdafactorBeta) * mean);
    }
  });

  // col^, stored for now in the columns' factors: its mean is needed first.
  const double column_correction = 1 - std::pow(kAdafactorBeta, step);
  parallel_pieces(device, outputs, kColumns, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t o = begin; o < end; ++o) {
      double sum = 0;
      for (std::int64_t b = 0; b < blocks(tile); ++b) sum += s.column_sums[b * outputs + o];
      a.column_sum.as<Real>()[o] += static_cast<Real>(sum);
      s.column_factor[o] = step == 0 ? sum / static_cast<double>(tile) : a.column.as<const Real>()[o] / column_correction;
    }
  });
  const double mean = sum_of(s.column_factor, outputs) / static_cast<double>(outputs);
  for (std::int64_t o = 0; o < outputs; ++o) s.column_factor[o] = 1 / std::sqrt(s.column_factor[o]);

  const double row_correction = 1 - std::pow(kAdafactorBeta, step + 1);
  parallel_pieces(device, tile, kRows, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      s.row_factor[row] = by * std::sqrt(mean * row_correction / a.row.as<const Real>()[row]);
      weighted_squares<Real>(gradient(row), s.column_factor, &s.row_squares[row], outputs);
      s.row_squares[row] *= s.row_factor[row] * s.row_factor[row];
    }
  });
  const double rms = std::sqrt(sum_of(s.row_squares, tile) / static_cast<double>(tile * outputs));

  const double scale = rate / std::max(1.0, rms);
  parallel_pieces(device, tile, kRows, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t row = begin; row < end; ++row) {
      update_row<Real>(gradient(row), scale * s.row_factor[row], s.column_factor, a.weight.as<Real>() + row * a.weight.row_stride,
                       outputs);
    }
  });
}

}  // namespace

// A GPU keeps in float32: column sums of q for each strip of rows, two row sums for each strip of columns, one value per column and
// one per row. In float64 it keeps sums over blocks, fewer than there are strips of columns and halves of rows.
std::int64_t adafactor_scratch(std::int64_t tile, std::int64_t outputs) {
  const std::int64_t row_strips = (tile + kAdafactorStripRows - 1) / kAdafactorStripRows;
  const std::int64_t column_strips = (outputs + kAdafactorStripColumns - 1) / kAdafactorStripColumns;
  const std::int64_t floats = row_strips * outputs + 2 * column_strips * (tile + 1) + outputs + 2 * tile + 8;
  return (std::max(2 * tile + (1 + blocks(tile)) * outputs, (floats + 1) / 2) + 1) / 2 *
         2;  // each tile's scratch is a multiple of whole vectors
}

void adafactor_tiles(CpuDevice& device, const AdafactorTiles& a) {
  require_type("adafactor_tiles", a.gradient.dtype, {a.weight, a.row, a.column, a.column_sum});
  require(a.tile > 0 && a.scratch.dtype == DType::f64 && a.scratch.elements() >= adafactor_scratch(a.tile, a.gradient[1]),
          "adafactor_tiles: the scratch must be f64 [adafactor_scratch(tile, outputs)]");
  for (std::int64_t begin = 0; begin < a.gradient[0]; begin += a.tile) {
    const std::int64_t rows = std::min(a.tile, a.gradient[0] - begin);
    AdafactorTiles tile = a;
    tile.gradient = a.gradient.rows(begin, rows);
    tile.weight = a.weight.rows(begin, rows);
    tile.row = a.row.rows(begin, rows);
    dispatch_real(a.gradient.dtype, [&](auto zero) { tile_update<decltype(zero)>(device, tile); });
  }
}

void adafactor_finish(CpuDevice&, const AdafactorFinish& a) {
  if ((step_control(a.control).overflow & kDecoderOverflow) != 0) return;
  require_type("adafactor_finish", a.column.dtype, {a.column_sum});
  dispatch_real(a.column.dtype, [&](auto zero) {
    using Real = decltype(zero);
    for (std::int64_t o = 0; o < a.column.elements(); ++o) {
      Real& statistic = a.column.as<Real>()[o];
      const double mean = static_cast<double>(a.column_sum.as<const Real>()[o]) / static_cast<double>(a.vocabulary);
      statistic = static_cast<Real>(kAdafactorBeta * statistic + (1 - kAdafactorBeta) * mean);
    }
  });
}

}  // namespace neurogen
