#include "kernels/random.h"

#include <cmath>
#include <numbers>

namespace neurogen {
namespace {

// Two numbers in (0, 1) from the four words of one draw, 53 bits each.
double unit(std::uint32_t high, std::uint32_t low) {
  return (static_cast<double>((static_cast<std::uint64_t>(high) << 32 | low) >> 11) + 0.5) * 0x1p-53;
}

}  // namespace

std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  std::array<std::uint32_t, 4> c = {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                                    static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)};
  auto k0 = static_cast<std::uint32_t>(seed), k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53} * c[0], p1 = std::uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c;
}

double uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const auto bits = philox(seed, stream, index);
  return unit(bits[0], bits[1]);
}

double normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const auto bits = philox(seed, stream, index);
  return std::sqrt(-2 * std::log(unit(bits[0], bits[1]))) * std::cos(2 * std::numbers::pi * unit(bits[2], bits[3]));
}

// Lemire 2019, "Fast random integer generation in an interval": the high half of a product; the bias is below bound / 2^64.
std::uint64_t below(std::uint64_t bound, std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const auto bits = philox(seed, stream, index);
  const std::uint64_t word = static_cast<std::uint64_t>(bits[0]) << 32 | bits[1];
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(word) * bound) >> 64);
}

}  // namespace neurogen
