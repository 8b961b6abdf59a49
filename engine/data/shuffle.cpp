#include "engine/data/shuffle.h"

#include <fmt/format.h>

#include "arena/error.h"

namespace neurogen {
namespace {

// The finalizer of SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators").
std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

}  // namespace

Shuffle::Shuffle(std::uint64_t n, std::uint64_t seed, std::uint64_t epoch) : n_(n) {
  if (n == 0 || n > std::uint64_t{1} << 62) throw Error(fmt::format("{} elements cannot be shuffled: use 1 to 2^62", n));
  while ((std::uint64_t{1} << (2 * half_bits_)) < n) ++half_bits_;
  std::uint64_t state = mix(mix(seed) ^ epoch);
  for (std::uint64_t& key : keys_) key = state = mix(state);
}

std::uint64_t Shuffle::operator()(std::uint64_t index) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  do {
    std::uint64_t left = index >> half_bits_, right = index & mask;
    for (const std::uint64_t key : keys_) {
      const std::uint64_t next = left ^ (mix(right ^ key) & mask);
      left = right;
      right = next;
    }
    index = left << half_bits_ | right;
  } while (index >= n_);
  return index;
}

}  // namespace neurogen
