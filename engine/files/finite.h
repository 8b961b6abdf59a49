// Checks for NaN and infinity.
#pragma once
#include <cstddef>
#include <span>

#include "arena/tensor_view.h"

namespace neurogen {

// Whether floating-point data hold no NaN and no infinity; true for other types. `data` need not be aligned. Allocates nothing.
bool all_finite(DType type, std::span<const std::byte> data);

}  // namespace neurogen
