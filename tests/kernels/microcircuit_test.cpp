#include "kernels/brain/microcircuit.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

TEST(Microcircuit, RefusesOneAndSixNeuronsAnOutput) {
  Tensor<float> retain({32}, 1), pre_norm({4, 32}, 0);
  Tensor<std::int32_t> first({4}, 0);
  for (const std::int64_t roles : {1, 6}) {
    Tensor<float> currents({1, 4, roles * 32}, 1);
    EXPECT_THROW(microcircuit_forward(device_of(1), {currents.view(), retain.view(), first.view(), 4, {}, {}, {}, pre_norm.view()}),
                 Error);
  }
}

}  // namespace
}  // namespace neurogen
