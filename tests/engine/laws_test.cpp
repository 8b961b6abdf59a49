// The engine's laws about memory, on random brains.
#include "tests/engine/laws.h"

namespace neurogen {
namespace {

TEST(Laws, TheSmallestBudgetRunsAndOneByteLessIsRefused) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) check_smallest_budget(seed);
}

TEST(Laws, SchedulesThreadsOverlayAndPoisonChangeNoBit) { check_equal_bits(1002); }

TEST(Laws, PredictedBytesAreUsedBytes) {
  for (std::uint64_t seed = 2000; seed < 2012; ++seed) check_canary(seed, seed % 4 != 0);
}

TEST(Laws, WhatARefusalSuggestsFitsAndOneSequenceMoreDoesNot) {
  for (std::uint64_t seed = 3000; seed < 3010; ++seed) check_refusal(seed);
}

TEST(Laws, WhateverIsAskedForEitherTrainsOrIsRefusedWithWhatFits) {
  check_wholes(4000, 4048);
  check_whole(14'311);  // a window too short for the page's shorter windows
}

}  // namespace
}  // namespace neurogen
