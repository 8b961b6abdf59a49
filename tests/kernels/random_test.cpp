#include "kernels/base/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "arena/error.h"

namespace neurogen {
namespace {

// The known answers published with the generator (Random123, kat_vectors, philox4x32 10).
TEST(Random, PhiloxGivesThePublishedAnswers) {
  using Four = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox(0, 0, 0), (Four{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~0ull, ~0ull, ~0ull), (Four{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88),
            (Four{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Random, UniformAndNormalHaveTheirMoments) {
  constexpr std::uint64_t kCount = 200000;
  double sum = 0, squares = 0, fourth = 0, lag = 0, last = 0;
  std::vector<int> bins(20);
  for (std::uint64_t i = 0; i < kCount; ++i) {
    const double u = uniform(5, 3, i);
    ASSERT_TRUE(u > 0 && u < 1);
    ++bins[static_cast<std::size_t>(u * 20)];
    const double x = normal(5, 4, i);
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    fourth += x * x * x * x;
    lag += x * last;
    last = x;
  }
  double chi_squared = 0;
  for (const int bin : bins) chi_squared += (bin - kCount / 20.0) * (bin - kCount / 20.0) / (kCount / 20.0);
  EXPECT_LT(chi_squared, 43.8);  // 19 degrees of freedom, one in a thousand
  EXPECT_NEAR(sum / kCount, 0, 0.01);
  EXPECT_NEAR(squares / kCount, 1, 0.015);
  EXPECT_NEAR(fourth / kCount, 3, 0.12);
  EXPECT_NEAR(lag / kCount, 0, 0.01);
}

TEST(Random, BelowIsEvenAndStaysBelow) {
  std::vector<int> counts(7);
  for (std::uint64_t i = 0; i < 70000; ++i) ++counts.at(below(7, 1, 2, i));
  for (const int count : counts) EXPECT_NEAR(count, 10000, 400);
  double mean = 0;
  for (std::uint64_t i = 0; i < 10000; ++i) {
    EXPECT_EQ(below(1, 9, 9, i), 0u);
    const std::uint64_t bound = 3ull << 62;  // `% bound` of 64 bits would favour some values by a factor of two
    const std::uint64_t x = below(bound, 1, 3, i);
    ASSERT_LT(x, bound);
    mean += static_cast<double>(x) / static_cast<double>(bound) / 10000;
  }
  EXPECT_NEAR(mean, 0.5, 0.015);
  EXPECT_THROW(below(0, 1, 1, 1), Error);
}

TEST(Random, SeedStreamAndIndexAllMatter) {
  const auto x = philox(1, 2, 3);
  for (const auto& other : {philox(2, 2, 3), philox(1, 3, 3), philox(1, 2, 4), philox(1ull << 32, 2, 3), philox(1, 2ull << 32, 3),
                            philox(1, 2, 3ull << 32), philox(2, 1, 3), philox(1, 3, 2)}) {
    EXPECT_NE(x, other);
  }
}

}  // namespace
}  // namespace neurogen
