// The laws of tests/engine/laws.h on many more random brains and transformers.
#include "tests/engine/laws.h"

namespace neurogen {
namespace {

TEST(ManyLaws, TheSmallestBudgetRunsAndOneByteLessIsRefused) {
  for (std::uint64_t seed = 10'000; seed < 10'200; ++seed) check_smallest_budget(seed);
  for (std::uint64_t seed = 10'500; seed < 10'800; ++seed) check_smallest_budget(seed, random_transformer);
}

TEST(ManyLaws, SchedulesThreadsOverlayAndPoisonChangeNoBit) {
  for (std::uint64_t seed = 11'000; seed < 11'030; ++seed) check_equal_bits(seed);
  for (std::uint64_t seed = 11'500; seed < 11'600; ++seed) check_equal_bits(seed, random_transformer);
}

TEST(ManyLaws, PredictedBytesAreUsedBytes) {
  for (std::uint64_t seed = 12'000; seed < 12'200; ++seed) check_canary(seed, seed % 4 != 0);
  for (std::uint64_t seed = 12'500; seed < 12'800; ++seed) check_canary(seed, seed % 4 != 0, random_transformer);
}

TEST(ManyLaws, WhatARefusalSuggestsFitsAndOneSequenceMoreDoesNot) {
  for (std::uint64_t seed = 13'000; seed < 13'060; ++seed) check_refusal(seed);
  for (std::uint64_t seed = 13'500; seed < 13'700; ++seed) check_refusal(seed, random_transformer);
}

TEST(ManyLaws, WhateverIsAskedForEitherTrainsOrIsRefusedWithWhatFits) {
  check_wholes(14'000, 15'000);
  check_wholes(15'000, 16'000, random_transformer);
}

TEST(ManyLaws, WhatARefusalSuggestsForPresetsFits) {
  for (const auto& [preset, budget] : {std::pair{"full", Bytes{1'700'000'000}}, {"full", 900'000'000}, {"small", 300'000'000}}) {
    StepOptions o;
    const ArchitecturePtr a = read_architecture(preset);
    const Budget limits{budget, 128'000'000};
    const Fit fit = fit_training(a, o, limits);
    ASSERT_FALSE(fit.fits());
    EXPECT_GE(check_page(a, o, fit, limits), 1);
  }
}

}  // namespace
}  // namespace neurogen
