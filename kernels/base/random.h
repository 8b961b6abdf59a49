// Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3"). A value depends
// only on (seed, stream, index): equal numbers for any thread, order and device.
#pragma once
#include <array>
#include <cstdint>

namespace neurogen {

std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);

double uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);  // in (0, 1)
double normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);   // mean 0, variance 1 (Box & Muller)
std::uint64_t below(std::uint64_t bound, std::uint64_t seed, std::uint64_t stream, std::uint64_t index);  // in [0, bound)

}  // namespace neurogen
