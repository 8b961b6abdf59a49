// Scratch that Adafactor's kernels pass to each other (adafactor_scratch gives its size), and its layout by tiles.
#pragma once
#include "kernels/adafactor.h"
#include "kernels/base/cuda_kernel.cuh"

namespace neurogen {

// Per block; in finish a thread takes a column, or a warp takes a row.
inline constexpr int kAdafactorWarps = 8, kAdafactorThreads = 32 * kAdafactorWarps;

// Layout of the scratch, in this order: data that is read as vectors begins at multiples of the vector size.
struct AdafactorScratch {
  float* column_strips;   // [row strips, O] sums of the squared gradient, with its loss scale
  float* column;          // [O] 1 / sqrt(col^)
  float2* row_strips;     // [column strips, rows]: sums of the squared gradient, and of g^2 / column
  double* column_totals;  // [column blocks] sums of col^
  double* square_totals;  // [row blocks] sums of g^2 / col^ / row^, which is u^2 without mean(col^)
  double* correction;     // [1] 1 - beta^(n-1), 0 in the first step; only the first tile's is used
  float* row;             // [rows] 1 / sqrt(row^), row^ = row / (1-beta^n)
  float* scale;           // [1] common factor of u and the rate: rate / max(1, rms) * sqrt(mean(col^)) / loss scale
  unsigned* done;         // [1] blocks of finish that have ended; only the first tile's is used
};

// Tiles of one call; kernels take tile blockIdx.z by default.
struct AdafactorTile {
  std::int64_t rows_of_all, tile_rows, outputs, scratch_stride;  // scratch_stride: floats from one tile's scratch to the next
  unsigned column_blocks, row_blocks;                            // blocks of finish: for all columns, and for each tile's rows
  AdafactorScratch first;

  __device__ std::int64_t begin(unsigned tile = blockIdx.z) const { return tile * tile_rows; }
  __device__ std::int64_t rows(unsigned tile = blockIdx.z) const { return min(tile_rows, rows_of_all - begin(tile)); }
  __device__ AdafactorScratch scratch(unsigned tile = blockIdx.z) const {
    const std::int64_t by = tile * scratch_stride;
    return {first.column_strips + by,
            first.column + by,
            first.row_strips + by / 2,
            first.column_totals + by / 2,
            first.square_totals + by / 2,
            first.correction,
            first.row + by,
            first.scale + by,
            first.done};
  }
};

inline AdafactorTile tile_of(const AdafactorTiles& a) {
  const std::int64_t rows = a.tile, outputs = a.gradient[1];
  AdafactorTile t{a.gradient[0],
                  rows,
                  outputs,
                  2 * adafactor_scratch(rows, outputs),
                  pieces(outputs, kAdafactorThreads),
                  pieces(rows, kAdafactorWarps),
                  {}};
  AdafactorScratch& s = t.first;
  s.column_strips = a.scratch.as<float>();
  s.column = s.column_strips + pieces(rows, kAdafactorStripRows) * outputs;
  s.row_strips = reinterpret_cast<float2*>(s.column + outputs);
  s.column_totals = reinterpret_cast<double*>(s.row_strips + pieces(outputs, kAdafactorStripColumns) * rows);
  s.square_totals = s.column_totals + t.column_blocks;
  s.correction = s.square_totals + t.row_blocks;
  s.row = reinterpret_cast<float*>(s.correction + 1);
  s.scale = s.row + rows;
  s.done = reinterpret_cast<unsigned*>(s.scale + 1);
  return t;
}

}  // namespace neurogen
