#include "kernels/rms_norm.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

TEST(RmsNorm, RefusesMixedTypes) {
  auto x = Tensor<float>::noise({3, 8}, 1), out = x, inverse_rms = Tensor<float>::noise({3}, 2);
  auto gain = Tensor<double>::noise({8}, 3);
  EXPECT_THROW(
      rms_norm_forward(device_of(1), {.x = x.view(), .gain = gain.view(), .out = out.view(), .inverse_rms = inverse_rms.view()}),
      Error);
}

}  // namespace
}  // namespace neurogen
