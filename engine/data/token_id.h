// Token ids in memory. Files of a vocabulary of up to 65,536 hold 16 bits each (tokens.h).
#pragma once
#include <cstdint>

namespace neurogen {

using TokenId = std::int32_t;
inline constexpr TokenId kNoToken = -1;

}  // namespace neurogen
