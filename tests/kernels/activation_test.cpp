#include "kernels/activation.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

TEST(Activation, AGateBelongsToTheGatedOne) {
  Tensor<float> up = Tensor<float>::noise({3, 8}, 1), gate = up, out = up;
  EXPECT_THROW(activation_forward(device_of(1), {Activation::relu2, up.view(), gate.view(), {}, {}, out.view()}), Error);
  EXPECT_THROW(activation_forward(device_of(1), {Activation::silu_gated, up.view(), {}, {}, {}, out.view()}), Error);
}

}  // namespace
}  // namespace neurogen
