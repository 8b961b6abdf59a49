// Whether numbers can be computed with.
#pragma once
#include <cstddef>
#include <span>

#include "arena/tensor_view.h"

namespace neurogen {

// No NaN and no infinity among the numbers of a floating type; true for other types. `data` need not be aligned. Allocates nothing.
bool all_finite(DType type, std::span<const std::byte> data);

}  // namespace neurogen
