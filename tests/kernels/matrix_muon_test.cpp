#include "kernels/matrix_muon.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

TEST(MatrixMuon, TakesMatricesOfOneShape) {
  using T = Tensor<float>;
  StepControl control{.synapse_learning_rate = 1};
  T a = T::noise({20, 10}, 1), b = T::noise({10, 20}, 2), norm({2}, 1), x = T::poisoned({2, 20, 10}), next = x,
    gram = T::poisoned({2, 10, 10}), square = gram;
  Tensor<double> sums = Tensor<double>::poisoned({2, matrix_muon_sums(20 * 10)});
  const auto run = [&](T& second) {
    T first_gradient = a, first_momentum = a, gradient = second, momentum = second;
    matrix_muon(device_of(1),
                {view_of(control),
                 norm.view(),
                 {{first_gradient.view(), a.view(), first_momentum.view()}, {gradient.view(), second.view(), momentum.view()}},
                 x.view(),
                 next.view(),
                 gram.view(),
                 square.view(),
                 sums.view()});
  };
  T same = a;
  EXPECT_NO_THROW(run(same));
  EXPECT_THROW(run(b), Error);
}

}  // namespace
}  // namespace neurogen
