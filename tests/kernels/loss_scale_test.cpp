#include "kernels/loss_scale.h"

#include <gtest/gtest.h>

namespace neurogen {
namespace {

TEST(LossScale, HalvesAtAnOverflowAndDoublesAfterALongWhileWithout) {
  LossScaleState s{};
  s = after_step(s, kTrunkOverflow);
  EXPECT_EQ(s.doublings, -1);
  EXPECT_EQ(s.trunk_skips, 1);
  EXPECT_EQ(s.decoder_skips, 0);
  s = after_step(s, kTrunkOverflow | kDecoderOverflow);
  EXPECT_EQ(s.doublings, -2);
  EXPECT_EQ(s.trunk_skips, 2);
  EXPECT_EQ(s.decoder_skips, 1);
  for (int i = 1; i < kLossScaleInterval; ++i) s = after_step(s, 0);
  EXPECT_EQ(s.doublings, -2);
  s = after_step(s, 0);
  EXPECT_EQ(s.doublings, -1);
  EXPECT_EQ(s.clean, 0);
  // Never beyond its bounds.
  for (int i = 0; i < 40; ++i) s = after_step(s, kTrunkOverflow);
  EXPECT_EQ(kFirstLossScale + s.doublings, kLeastLossScale);
  for (int i = 0; i < 40 * kLossScaleInterval; ++i) s = after_step(s, 0);
  EXPECT_EQ(kFirstLossScale + s.doublings, kMostLossScale);
}

}  // namespace
}  // namespace neurogen
