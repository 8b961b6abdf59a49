#include "kernels/base/random.h"

#include <cmath>
#include <numbers>

#include "arena/error.h"

namespace neurogen {
namespace {

struct Words {
  std::uint64_t first, second;
};

Words words(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const auto x = philox(seed, stream, index);
  return {std::uint64_t{x[0]} << 32 | x[1], std::uint64_t{x[2]} << 32 | x[3]};
}

// 52 bits and a half: with 53 bits the largest value would round to 1.
double open_interval(std::uint64_t word) { return (static_cast<double>(word >> 12) + 0.5) * 0x1p-52; }

}  // namespace

// The counter is (index, stream), low words first; the key is the seed.
std::array<std::uint32_t, 4> philox(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  std::array<std::uint32_t, 4> x = {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                                    static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)};
  std::uint32_t key0 = static_cast<std::uint32_t>(seed), key1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * x[0], b = std::uint64_t{0xCD9E8D57} * x[2];
    x = {static_cast<std::uint32_t>(b >> 32) ^ x[1] ^ key0, static_cast<std::uint32_t>(b),
         static_cast<std::uint32_t>(a >> 32) ^ x[3] ^ key1, static_cast<std::uint32_t>(a)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return x;
}

double uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return open_interval(words(seed, stream, index).first);
}

double normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const Words w = words(seed, stream, index);
  return std::sqrt(-2 * std::log(open_interval(w.first))) * std::cos(2 * std::numbers::pi * open_interval(w.second));
}

std::uint64_t below(std::uint64_t bound, std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  if (bound == 0) throw Error("cannot draw a random number below 0: the bound must be positive");
  // floor(bound * r / 2^128) with all 128 bits of r: rejects no draw, and the bias of 2^-64 is negligible.
  using Wide = unsigned __int128;
  const Words w = words(seed, stream, index);
  const Wide low = Wide{bound} * w.second >> 64;
  return static_cast<std::uint64_t>((Wide{bound} * w.first + low) >> 64);
}

}  // namespace neurogen
