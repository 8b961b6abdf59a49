#include "kernels/adafactor.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

TEST(Adafactor, RefusesTooLittleScratch) {
  auto x = Tensor<float>::noise({4, 6}, 1), row = Tensor<float>::noise({4}, 1), column = Tensor<float>::noise({6}, 1);
  Tensor<double> scratch({adafactor_scratch(4, 6) - 1}, 0);
  StepControl control;
  EXPECT_THROW(adafactor_tiles(device_of(1), {view_of(control), x.view(), x.view(), row.view(), column.view(), column.view(),
                                              scratch.view(), x.view()[0]}),
               Error);
}

}  // namespace
}  // namespace neurogen
