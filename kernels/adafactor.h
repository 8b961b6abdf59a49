// Adafactor without momentum for the decoder (Shazeer & Stern 2018, arXiv:1804.04235), over tiles of rows, so that the whole
// gradient never exists. A tile uses its own rows' statistics including this step, and the columns' statistics from before this
// step (in the first step: those of the tile itself). For step n = 1, 2, ..., beta = 0.99:
//   q = g^2 + 1e-30    row = beta row + (1-beta) mean_O(q)
//   col^ = n = 1 ? mean over the tile's rows of q : column / (1 - beta^(n-1))
//   u = g / sqrt(row / (1-beta^n) / mean(col^) * col^)
//   weight -= lr u / max(1, rms of u over the tile)
// After all tiles: column = beta column + (1-beta) mean over all V rows of q.
// 16-bit weights (on a GPU) are rounded up or down at random, in proportion to the distances, so that updates far below their last
// bit are not lost on average.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"
#include "kernels/base/step_control.h"

namespace neurogen {

inline constexpr double kAdafactorBeta = 0.99, kAdafactorEpsilon = 1e-30;

// One or more neighbouring tiles; the last may be shorter.
struct AdafactorTiles {
  TensorView control;          // StepControl: decoder_learning_rate, the step, and the effect of a loss scale (loss_scale.h)
  TensorView gradient;         // [rows, O]; on a GPU f32 or bf16
  TensorView weight;           // [rows, O] updated
  TensorView row;              // [rows] updated
  TensorView column;           // [O] from before this step
  TensorView column_sum;       // [O]: the sum of q over rows is added, tile by tile; cleared before the first tile
  TensorView scratch;          // [tiles, adafactor_scratch(tile, O)] f64
  std::int64_t tile = 0;       // rows per tile
  std::int64_t first_row = 0;  // index of the first row in the vocabulary; seeds the random rounding of 16-bit weights
};

struct AdafactorFinish {
  TensorView column_sum;        // [O]
  std::int64_t vocabulary = 0;  // V
  TensorView column;            // [O] updated
  TensorView control;           // as above
};

std::int64_t adafactor_scratch(std::int64_t tile, std::int64_t outputs);  // elements, on either device
// Rows and columns per partial sum on a GPU.
inline constexpr std::int64_t kAdafactorStripRows = 128, kAdafactorStripColumns = 256;

void adafactor_tiles(CpuDevice& device, const AdafactorTiles& arguments);
void adafactor_finish(CpuDevice& device, const AdafactorFinish& arguments);
void adafactor_tiles(CudaDevice& device, const AdafactorTiles& arguments);
void adafactor_finish(CudaDevice& device, const AdafactorFinish& arguments);

}  // namespace neurogen
