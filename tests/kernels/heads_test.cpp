#include "kernels/heads.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

TEST(Heads, AreOfAnEvenWidth) {
  Tensor<float> odd = Tensor<float>::noise({3, 4 * 5}, 1), partial = Tensor<float>::noise({3, 4 * 6 + 2}, 2);
  for (Tensor<float>* qkv : {&odd, &partial})
    EXPECT_THROW(heads_forward(device_of(1), {{2, 1}, {}, {}, {}, {}, 1e-3, {}, qkv->view()}), Error);
}

}  // namespace
}  // namespace neurogen
