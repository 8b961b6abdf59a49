// A seeded permutation of [0, n), computed on the fly in constant memory: it visits every window once per epoch.
#pragma once
#include <array>
#include <cstdint>

namespace neurogen {

// A balanced Feistel network over the smallest 2^2k >= n (Luby & Rackoff 1988, "How to construct pseudorandom
// permutations"), with cycle walking back into [0, n) (Black & Rogaway 2002, "Ciphers with arbitrary finite domains",
// section 4); 2^2k < 4 n, so a walk takes less than four turns on average.
class Shuffle {
 public:
  // 1 <= n <= 2^62. Each (seed, epoch) has its own permutation, the same on every machine.
  Shuffle(std::uint64_t n, std::uint64_t seed, std::uint64_t epoch);
  // index in [0, n).
  std::uint64_t operator()(std::uint64_t index) const;

 private:
  std::uint64_t n_;
  int half_bits_ = 1;
  std::array<std::uint64_t, 8> keys_;  // one per round
};

}  // namespace neurogen
