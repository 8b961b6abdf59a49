#include "kernels/brain/attention.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

TEST(Attention, RefusesOtherRolesHalfHeadsPartsOfWindowsAndSmallScratch) {
  const auto run = [](std::int64_t groups, std::int64_t roles, std::int64_t window, std::int64_t scratch_elements) {
    Tensor<float> currents({groups, 8, roles * 32}, 1), pre_norm({8, groups * 32}, 0), scratch({1, scratch_elements}, 0);
    Tensor<std::int32_t> first({8}, 0);
    attention_forward(device_of(1), {currents.view(), first.view(), window, pre_norm.view(), scratch.view()});
  };
  const std::int64_t enough = attention_scratch(8);
  run(2, 4, 8, enough);
  EXPECT_THROW(run(2, 3, 8, enough), Error);
  EXPECT_THROW(run(1, 4, 8, enough), Error);
  EXPECT_THROW(run(2, 4, 5, enough), Error);
  EXPECT_THROW(run(2, 4, 8, 64), Error);
}

}  // namespace
}  // namespace neurogen
