#include "kernels/adamw.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

TEST(AdamW, RefusesMixedTypesAndStridedRows) {
  auto x = Tensor<float>::noise({4, 6}, 1);
  Tensor<std::int32_t> wrong({4, 6}, 0);
  Tensor<float> norm({2}, 1);
  StepControl control;
  EXPECT_THROW(adamw(device_of(1), {view_of(control), norm.view(), {{wrong.view(), x.view(), x.view(), x.view()}}}), Error);
  const TensorView strided = x.view().columns(0, 3);
  EXPECT_THROW(adamw(device_of(1), {view_of(control), norm.view(), {{strided, strided, strided, strided}}}), Error);
}

TEST(AdamW, TakesAsManyTensorsAsFitIntoACall) {
  AdamW arguments;
  for (int i = 0; i < kMostSeveral; ++i) arguments.updates.add({});
  EXPECT_THROW(arguments.updates.add({}), Error);
}

}  // namespace
}  // namespace neurogen
