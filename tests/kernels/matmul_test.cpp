#include "kernels/matmul.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

TEST(Matmul, RefusesWhatDoesNotFit) {
  Tensor<float> a({2, 3}, 1), b({4, 5}, 1), c({2, 5}, 0);
  Tensor<double> wide({3, 5}, 1);
  EXPECT_THROW(matmul(device_of(1), {.a = a.view(), .b = b.view(), .c = c.view()}), Error);
  EXPECT_THROW(matmul(device_of(1), {.a = a.view(), .b = wide.view(), .c = c.view()}), Error);
}

}  // namespace
}  // namespace neurogen
