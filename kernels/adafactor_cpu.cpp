#include "kernels/adafactor.h"

#include <algorithm>
#include <cmath>

#include "kernels/dispatch.h"
#include "kernels/vector_math.h"

namespace neurogen {
namespace {

constexpr std::int64_t kColumns = 256;  // that one thread sums at a time

// Sums of q over the tile's rows, for the columns [begin, end).
template <typename Real>
NEUROGEN_CLONES void column_sums(const Real* gradient, std::int64_t rows, std::int64_t stride, std::int64_t columns, double* sums) {
  for (std::int64_t j = 0; j < columns; ++j) sums[j] = 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    const Real* g = gradient + i * stride;
#pragma omp simd
    for (std::int64_t j = 0; j < columns; ++j) sums[j] += static_cast<double>(g[j]) * static_cast<double>(g[j]) + kAdafactorEpsilon;
  }
}

template <typename Real>
NEUROGEN_CLONES double row_mean(const Real* g, std::int64_t n) {
  const double sum = sum_over<double>(n, [=](std::int64_t j) NEUROGEN_LAMBDA {
    return static_cast<double>(g[j]) * static_cast<double>(g[j]) + kAdafactorEpsilon;
  });
  return sum / static_cast<double>(n);
}

// The sum of squares of g * column over a row: u without its row factor.
template <typename Real>
NEUROGEN_CLONES double scaled_squares(const Real* g, const double* column, std::int64_t n) {
  return sum_over<double>(n, [=](std::int64_t j) NEUROGEN_LAMBDA {
    const double u = static_cast<double>(g[j]) * column[j];
    return u * u;
  });
}

template <typename Real>
NEUROGEN_CLONES void apply(const Real* g, const double* column, double factor, Real* weight, std::int64_t n) {
  const Real f = static_cast<Real>(factor);
#pragma omp simd
  for (std::int64_t j = 0; j < n; ++j) weight[j] -= f * g[j] * static_cast<Real>(column[j]);
}

template <typename Real>
void tile(CpuDevice& device, const AdafactorTile& a) {
  const std::int64_t rows = a.gradient[0], outputs = a.gradient[1];
  const StepControl& control = step_control(a.control);
  const auto n = static_cast<double>(control.step + 1);
  const Real* gradient = a.gradient.as<const Real>();
  // Scratch: the columns' sums of q, later 1 / sqrt(col^); the rows' factors; the rows' sums of u^2.
  double *column = a.scratch.as<double>(), *row_factor = column + outputs, *row_squares = row_factor + rows;

  parallel_pieces(device, outputs, kColumns, [&](std::int64_t begin, std::int64_t end, int) {
    column_sums(gradient + begin, rows, outputs, end - begin, column + begin);
    for (std::int64_t j = begin; j < end; ++j) {
      a.column_sum.as<Real>()[j] += static_cast<Real>(column[j]);
      column[j] = control.step == 0 ? column[j] / static_cast<double>(rows)
                                    : static_cast<double>(a.column.as<const Real>()[j]) / (1 - std::pow(kAdafactorBeta, n - 1));
    }
  });
  double mean = 0;
  for (std::int64_t j = 0; j < outputs; ++j) mean += column[j];
  mean /= static_cast<double>(outputs);
  for (std::int64_t j = 0; j < outputs; ++j) column[j] = 1 / std::sqrt(column[j]);

  const double correction = 1 - std::pow(kAdafactorBeta, n);
  device.parallel(rows, [&](std::int64_t i, int) {
    const Real* g = gradient + i * outputs;
    Real& row = a.row.as<Real>()[i];
    row = static_cast<Real>(kAdafactorBeta * static_cast<double>(row) + (1 - kAdafactorBeta) * row_mean(g, outputs));
    row_factor[i] = 1 / std::sqrt(static_cast<double>(row) / correction / mean);
    row_squares[i] = row_factor[i] * row_factor[i] * scaled_squares(g, column, outputs);
  });
  double squares = 0;
  for (std::int64_t i = 0; i < rows; ++i) squares += row_squares[i];
  const double rms = std::sqrt(squares / static_cast<double>(rows * outputs));
  const double rate = static_cast<double>(control.decoder_learning_rate) / std::max(1.0, rms);
  device.parallel(rows, [&](std::int64_t i, int) {
    apply(gradient + i * outputs, column, rate * row_factor[i], a.weight.as<Real>() + i * a.weight.row_stride, outputs);
  });
}

}  // namespace

// A GPU keeps, in float32: sums of q by column for each strip of rows, two sums by row for each strip of columns, col^, two
// values a row and two of the whole tile.
std::int64_t adafactor_scratch(std::int64_t tile, std::int64_t outputs) {
  const std::int64_t row_strips = (tile + kAdafactorStripRows - 1) / kAdafactorStripRows;
  const std::int64_t column_strips = (outputs + kAdafactorStripColumns - 1) / kAdafactorStripColumns;
  const std::int64_t floats = row_strips * outputs + 2 * column_strips * tile + outputs + 2 * tile + 2;
  return std::max(outputs + 2 * tile, (floats + 1) / 2);
}

void adafactor_tile(CpuDevice& device, const AdafactorTile& a) {
  require_type("adafactor_tile", a.gradient.dtype, {a.weight, a.row, a.column, a.column_sum});
  dispatch_real(a.gradient.dtype, [&](auto zero) { tile<decltype(zero)>(device, a); });
}

void adafactor_finish(CpuDevice&, const AdafactorFinish& a) {
  dispatch_real(a.column.dtype, [&](auto zero) {
    using Real = decltype(zero);
    for (std::int64_t j = 0; j < a.column.elements(); ++j) {
      const double mean = static_cast<double>(a.column_sum.as<const Real>()[j]) / static_cast<double>(a.vocabulary);
      Real& column = a.column.as<Real>()[j];
      column = static_cast<Real>(kAdafactorBeta * static_cast<double>(column) + (1 - kAdafactorBeta) * mean);
    }
  });
}

}  // namespace neurogen
