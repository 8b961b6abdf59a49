#include "kernels/residual_norm.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

TEST(ResidualNorm, ALayerNormHasAMeanAnRmsNormNone) {
  using T = Tensor<float>;
  T x = T::noise({3, 8}, 1), gain = T::noise({8}, 2), out = x, mean = T::poisoned({3}), inverse = mean;
  const auto run = [&](Norm norm, const TensorView& of) {
    residual_norm_forward(device_of(1), {norm, 1e-3, x.view(), {}, {}, {}, gain.view(), {}, out.view(), of, inverse.view()});
  };
  EXPECT_THROW(run(Norm::layer, {}), Error);
  EXPECT_THROW(run(Norm::rms, mean.view()), Error);
}

}  // namespace
}  // namespace neurogen
