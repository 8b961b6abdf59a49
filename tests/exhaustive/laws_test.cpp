// The laws of tests/engine/laws.h on many more random brains.
#include "tests/engine/laws.h"

namespace neurogen {
namespace {

TEST(ManyLaws, TheSmallestBudgetRunsAndOneByteLessIsRefused) {
  for (std::uint64_t seed = 10'000; seed < 10'200; ++seed) check_smallest_budget(seed);
}

TEST(ManyLaws, SchedulesThreadsOverlayAndPoisonChangeNoBit) {
  for (std::uint64_t seed = 11'000; seed < 11'030; ++seed) check_equal_bits(seed);
}

TEST(ManyLaws, PredictedBytesAreUsedBytes) {
  for (std::uint64_t seed = 12'000; seed < 12'200; ++seed) check_canary(seed, seed % 4 != 0);
}

TEST(ManyLaws, WhatARefusalSuggestsFitsAndOneSequenceMoreDoesNot) {
  for (std::uint64_t seed = 13'000; seed < 13'060; ++seed) check_refusal(seed);
}

TEST(ManyLaws, WhateverIsAskedForEitherTrainsOrIsRefusedWithWhatFits) { check_wholes(14'000, 15'000); }

TEST(ManyLaws, WhatARefusalSuggestsForPresetsFits) {
  for (const auto& [preset, budget] : {std::pair{"full", Bytes{1'700'000'000}}, {"full", 900'000'000}, {"small", 300'000'000}}) {
    StepOptions o;
    const BrainShape a = read_brain(preset);
    const Budget limits{budget, 128'000'000};
    const Fit fit = fit_training(a, o, limits);
    ASSERT_FALSE(fit.fits());
    EXPECT_GE(check_page(a, o, fit, limits), 1);
  }
}

}  // namespace
}  // namespace neurogen
