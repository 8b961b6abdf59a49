// Sums over the rows of a batch, such as a bias' gradient: each part of the rows is summed by itself, then the parts in order. The
// parts depend on the number of rows alone, so that the bits depend on no thread and no device setting.
#pragma once
#include <algorithm>
#include <cstdint>

namespace neurogen {

inline constexpr std::int64_t kMostRowParts = 256;

constexpr std::int64_t rows_per_part(std::int64_t rows) {
  return std::max<std::int64_t>(16, (rows + kMostRowParts - 1) / kMostRowParts);
}
constexpr std::int64_t row_parts(std::int64_t rows) { return (rows + rows_per_part(rows) - 1) / rows_per_part(rows); }

}  // namespace neurogen
