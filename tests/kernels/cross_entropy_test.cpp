#include "kernels/cross_entropy.h"

#include <gtest/gtest.h>

#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

template <typename Real>
struct Run {
  Tensor<Real> logits, loss, log_sum_exp;  // afterwards logits hold their gradient
  Tensor<double> total;
};

// All logits in column tiles of one wide tensor, like the decoder's.
template <typename Real>
Run<Real> run(Tensor<Real> logits, Tensor<std::int32_t> targets, std::int64_t tile, double softcap = 0) {
  const std::int64_t N = logits.shape[0], V = logits.shape[1];
  CpuDevice& device = device_of(2);
  auto maximum = Tensor<Real>::poisoned({N}), sum = maximum, target_logit = maximum, log_sum_exp = maximum, loss = maximum;
  auto total = Tensor<double>::poisoned({2});
  for (std::int64_t from = 0; from < V; from += tile) {
    softmax_statistics(device, {logits.view().columns(from, std::min(tile, V - from)), targets.view(), from, maximum.view(),
                                sum.view(), target_logit.view(), softcap});
  }
  cross_entropy_loss(
      device, {maximum.view(), sum.view(), target_logit.view(), targets.view(), log_sum_exp.view(), loss.view(), total.view()});
  for (std::int64_t from = 0; from < V; from += tile) {
    cross_entropy_backward(device, {logits.view().columns(from, std::min(tile, V - from)),
                                    targets.view(),
                                    log_sum_exp.view(),
                                    total.view(),
                                    from,
                                    {},
                                    softcap});
  }
  return {logits, loss, log_sum_exp, total};
}

template <typename Real>
class CrossEntropy : public testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(CrossEntropy, Reals);

TYPED_TEST(CrossEntropy, ExtremeLogitsStayFinite) {
  using Real = TypeParam;
  constexpr std::int64_t N = 6, V = 40;
  Tensor<Real> logits({N, V}, 0);
  for (std::int64_t i = 0; i < N * V; ++i) logits[i] = Real(i % 2 == 0 ? 1e4 : -1e4);
  for (std::int64_t j = 0; j < V; ++j) logits[j] = Real(-1e4), logits[V + j] = Real(1e4);
  Tensor<std::int32_t> targets({N}, 1);
  for (const std::int64_t tile : {V, std::int64_t{7}, std::int64_t{1}}) {
    const auto capped = run<Real>(logits, targets, tile, 30);
    for (const Real x : capped.logits.data) EXPECT_EQ(x, 0);  // flat there
    for (std::int64_t n = 0; n < N; ++n) EXPECT_NEAR(capped.loss[n], n < 2 ? std::log(40.0) : 60 + std::log(20.0), 1e-4);
    const auto result = run<Real>(logits, targets, tile);
    for (const Real x : result.logits.data) EXPECT_TRUE(std::isfinite(x) && std::abs(x) <= 1);
    EXPECT_NEAR(result.loss[0], std::log(40.0), 1e-5);
    EXPECT_NEAR(result.loss[1], std::log(40.0), 1e-5);
    for (std::int64_t n = 2; n < N; ++n) EXPECT_NEAR(result.loss[n], 2e4 + std::log(20.0), 1e-2);
  }
}

TYPED_TEST(CrossEntropy, NotANumberIsSeen) {
  auto logits = Tensor<TypeParam>::noise({3, 50}, 1);
  logits[50 + 33] = std::numeric_limits<TypeParam>::quiet_NaN();
  const auto result = run<TypeParam>(logits, Tensor<std::int32_t>({3}, 2), 20);
  EXPECT_TRUE(std::isnan(result.total[0]));
  EXPECT_TRUE(std::isfinite(result.loss[0]));
  EXPECT_TRUE(std::isnan(result.loss[1]));
}

TYPED_TEST(CrossEntropy, NoTargetsAtAllIsNoLoss) {
  const auto result = run<TypeParam>(Tensor<TypeParam>::noise({9, 11}, 1), Tensor<std::int32_t>({9}, -1), 4);
  EXPECT_EQ(result.total[0], 0);
  EXPECT_EQ(result.total[1], 0);
  for (const TypeParam x : result.logits.data) EXPECT_EQ(x, 0);
}

}  // namespace
}  // namespace neurogen
