// Which source blocks the column groups of a module read.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/brain/architecture.h"

namespace neurogen {

// [G, K] block ids. Each group gets distinct blocks from shuffled decks, so that all blocks are used almost equally often.
std::vector<std::int32_t> deal_wiring(const Module& module, std::uint64_t seed, std::uint64_t stream);

}  // namespace neurogen
