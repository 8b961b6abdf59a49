#include "arena/placement.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/arena/graph.h"

namespace neurogen {
namespace {

constexpr Bytes K = 256;

TEST(Placement, UsesTheGapBelowTheFirstNeighbour) {
  // The first dies and leaves [0, 6K), below the long-lived second, to the third, which is placed last.
  const Placement placement = place({{6 * K, 0, 0}, {5 * K, 0, 9}, {4 * K, 5, 5}});
  EXPECT_EQ(placement.order, "size");
  EXPECT_EQ(placement.offsets, (std::vector<Bytes>{0, 6 * K, 0}));
  EXPECT_EQ(placement.height, 11 * K);
}

TEST(Placement, FindsWhatTheOrderBySizeMisses) {
  const std::vector<Interval> intervals = {{4 * K, 0, 1}, {3 * K, 1, 2}, {3 * K, 2, 3}, {2 * K, 3, 4}, {4 * K, 4, 5},
                                           {1 * K, 0, 2}, {2 * K, 2, 2}, {2 * K, 5, 5}, {3 * K, 3, 5}};
  std::vector<OrderResult> tried;
  const Placement placement = place(intervals, &tried);
  ASSERT_EQ(tried[0].order, "size");
  EXPECT_GT(tried[0].height, placement.height);
  EXPECT_NE(placement.order, "size");
  EXPECT_EQ(placement.height, lower_bound(intervals));
}

TEST(Placement, LowerBoundSaysWhere) {
  std::int64_t at = -1;
  EXPECT_EQ(lower_bound({{2 * K, 0, 3}, {3 * K, 2, 5}, {1 * K, 4, 4}, {2 * K, 7, 9}}, &at), 5 * K);
  EXPECT_EQ(at, 2);
  EXPECT_EQ(lower_bound({}, &at), 0u);
  EXPECT_EQ(at, 0);
  EXPECT_EQ(place({}).height, 0u);
}

TEST(Placement, TrainingGraphsComeWithinTwoPercentOfTheBound) {
  for (const std::int64_t tokens : {256, 1000, 4096, 8192}) {
    for (const int tiles : {1, 2, 4, 8, 32}) {
      const Plan plan = make_plan(training_graph(tokens, tiles));
      const auto transient = [&](Bytes bytes) { return static_cast<double>(bytes - plan.device.persistent - plan.device.derived); };
      EXPECT_LE(transient(plan.device.bytes), 1.02 * transient(plan.device.lower_bound))
          << tokens << " tokens, " << tiles << " tiles";
    }
  }
}

// The result must not change with the compiler, the library or by accident: checkpoints and budgets rely on it.
TEST(Placement, IsTheSameEverywhere) {
  std::mt19937 random(101);  // a graph that only the 58th shuffle solves
  std::vector<Interval> intervals;
  for (int i = 0; i < 24; ++i) {
    const std::int64_t first = random() % 20;
    const Bytes size = (1 + random() % 9) * K;
    intervals.push_back({size, first, first + static_cast<std::int64_t>(random() % 7)});
  }
  const Placement placement = place(intervals);
  const std::vector<Bytes> golden = {11, 1, 23, 3, 18, 10, 6, 6, 27, 0, 5, 0, 0, 0, 27, 12, 24, 16, 0, 6, 18, 25, 16, 0};
  std::vector<Bytes> offsets;
  for (const Bytes offset : placement.offsets) offsets.push_back(offset / K);
  EXPECT_EQ(offsets, golden);
  EXPECT_EQ(placement.order, "shuffle 58");
}

}  // namespace
}  // namespace neurogen
