// The engine's laws about memory, on random brains and transformers.
#include "tests/engine/laws.h"

namespace neurogen {
namespace {

TEST(Laws, TheSmallestBudgetRunsAndOneByteLessIsRefused) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) check_smallest_budget(seed);
  for (std::uint64_t seed = 100; seed < 140; ++seed) check_smallest_budget(seed, random_transformer);
}

TEST(Laws, SchedulesThreadsOverlayAndPoisonChangeNoBit) {
  check_equal_bits(1002);
  for (std::uint64_t seed = 1100; seed < 1106; ++seed) check_equal_bits(seed, random_transformer);
}

TEST(Laws, PredictedBytesAreUsedBytes) {
  for (std::uint64_t seed = 2000; seed < 2012; ++seed) check_canary(seed, seed % 4 != 0);
  for (std::uint64_t seed = 2100; seed < 2130; ++seed) check_canary(seed, seed % 4 != 0, random_transformer);
}

TEST(Laws, WhatARefusalSuggestsFitsAndOneSequenceMoreDoesNot) {
  for (std::uint64_t seed = 3000; seed < 3010; ++seed) check_refusal(seed);
  for (std::uint64_t seed = 3100; seed < 3120; ++seed) check_refusal(seed, random_transformer);
}

TEST(Laws, WhateverIsAskedForEitherTrainsOrIsRefusedWithWhatFits) {
  check_wholes(4000, 4048);
  check_wholes(4100, 4148, random_transformer);
  check_whole(14'311);  // a window too short for the page's shorter windows
}

}  // namespace
}  // namespace neurogen
