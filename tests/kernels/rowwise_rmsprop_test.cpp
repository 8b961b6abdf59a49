#include "kernels/rowwise_rmsprop.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

TEST(RowwiseRmsprop, RefusesMixedTypes) {
  auto p = Tensor<float>::noise({5, 8}, 1), d_rows = Tensor<float>::noise({2, 8}, 2), norm = Tensor<float>::noise({2}, 3);
  Tensor<std::int32_t> rows({2}, 3), count({1}, 1), wrong({5}, 0);
  StepControl control;
  EXPECT_THROW(rowwise_rmsprop(device_of(1),
                               {view_of(control), norm.view(), rows.view(), count.view(), d_rows.view(), p.view(), wrong.view()}),
               Error);
}

}  // namespace
}  // namespace neurogen
