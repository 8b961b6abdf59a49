#include "kernels/gradient_norm.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

TEST(GradientNorm, HasASumForEachChunk) {
  EXPECT_EQ(norm_partials(0), 0);
  EXPECT_EQ(norm_partials(5), 1);
  EXPECT_EQ(norm_partials(2 * kNormChunk), 2);
  EXPECT_EQ(norm_partials(2 * kNormChunk + 1), 3);
}

TEST(GradientNorm, RefusesStridedRowsAndTheWrongNumberOfSums) {
  auto x = Tensor<float>::noise({4, 6}, 1);
  Tensor<double> partials({2}, 0);
  EXPECT_THROW(sum_of_squares(device_of(1), {{{x.view().columns(0, 3), {}}}, partials.view().rows(0, 1)}), Error);
  EXPECT_THROW(sum_of_squares(device_of(1), {{{x.view(), {}}}, partials.view()}), Error);
}

}  // namespace
}  // namespace neurogen
