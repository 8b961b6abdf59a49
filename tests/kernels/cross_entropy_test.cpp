#include "kernels/cross_entropy.h"

#include <algorithm>
#include <numeric>

#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

template <typename Real>
constexpr double kTolerance = sizeof(Real) == 8 ? 1e-12 : 2e-5;

template <typename Real>
struct Run {
  Tensor<Real> logits, loss, log_sum_exp;  // afterwards logits hold their gradient
  Tensor<double> total;
};

// All logits in column tiles of one wide tensor, like the decoder's.
template <typename Real>
Run<Real> run(Tensor<Real> logits, Tensor<std::int32_t> targets, std::int64_t tile, int threads = 1, bool backward = true,
              double softcap = 0) {
  const std::int64_t N = logits.shape[0], V = logits.shape[1];
  CpuDevice& device = device_of(threads);
  auto maximum = Tensor<Real>::poisoned({N}), sum = maximum, target_logit = maximum, log_sum_exp = maximum, loss = maximum;
  auto total = Tensor<double>::poisoned({2});
  for (std::int64_t from = 0; from < V; from += tile) {
    softmax_statistics(device, {logits.view().columns(from, std::min(tile, V - from)), targets.view(), from, maximum.view(),
                                sum.view(), target_logit.view(), softcap});
  }
  cross_entropy_loss(
      device, {maximum.view(), sum.view(), target_logit.view(), targets.view(), log_sum_exp.view(), loss.view(), total.view()});
  for (std::int64_t from = 0; backward && from < V; from += tile) {
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

Tensor<std::int32_t> some_targets(std::int64_t N, std::int64_t V, bool holes) {
  Tensor<std::int32_t> targets({N}, 0);
  std::mt19937 random(3);
  for (std::int32_t& target : targets.data) {
    target = static_cast<std::int32_t>(random() % static_cast<unsigned>(V));
    if (holes && random() % 4 == 0) target = -1;
  }
  return targets;
}

template <typename Real>
class CrossEntropy : public testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(CrossEntropy, Reals);

TYPED_TEST(CrossEntropy, FollowsTheFormulaHoweverTheVocabularyIsTiled) {
  using Real = TypeParam;
  for (const auto& [N, V, softcap] : {std::tuple{1, 1, 0.0}, {5, 3, 0.0}, {37, 301, 0.0}, {37, 301, 5.0}, {20, 1500, 30.0}}) {
    for (const bool holes : {false, true}) {
      const auto z = Tensor<Real>::noise({N, V}, 1, 3);
      Tensor<double> logits({N, V}, 0), slope({N, V}, 1);
      for (std::int64_t i = 0; i < N * V; ++i) {
        logits[i] = static_cast<double>(z[i]);
        if (softcap == 0) continue;
        const double part = std::tanh(logits[i] / softcap);
        logits[i] = softcap * part, slope[i] = 1 - part * part;
      }
      const auto targets = some_targets(N, V, holes);
      Tensor<double> loss({N}, 0), gradient({N, V}, 0);
      double total = 0, counted = 0;
      for (const std::int32_t target : targets.data) counted += target >= 0;
      for (std::int64_t n = 0; n < N; ++n) {
        if (targets[n] < 0) continue;
        double sum = 0;
        for (std::int64_t j = 0; j < V; ++j) sum += std::exp(logits[n * V + j]);
        for (std::int64_t j = 0; j < V; ++j)
          gradient[n * V + j] = (std::exp(logits[n * V + j]) / sum - (j == targets[n])) * slope[n * V + j] / counted;
        loss[n] = -std::log(std::exp(logits[n * V + targets[n]]) / sum);
        total += loss[n];
      }
      for (const std::int64_t tile : {V, (V + 1) / 2, 7}) {
        SCOPED_TRACE(testing::Message() << N << " x " << V << " in tiles of " << tile);
        const auto result = run<Real>(z, targets, tile, 1, true, softcap);
        for (std::int64_t n = 0; n < N; ++n) EXPECT_NEAR(result.loss[n], loss[n], 3 * kTolerance<Real>);
        for (std::int64_t i = 0; i < N * V; ++i)
          ASSERT_NEAR(result.logits[i], gradient[i], kTolerance<Real> / std::max(1.0, counted));
        EXPECT_NEAR(result.total[0], total, kTolerance<Real> * N);
        EXPECT_EQ(result.total[1], counted);
        for (const int threads : {2, 3}) {
          const auto again = run<Real>(z, targets, tile, threads, true, softcap);
          expect_same_bits(again.logits, result.logits, "gradient");
          expect_same_bits(again.loss, result.loss, "loss");
          expect_same_bits(again.total, result.total, "total");
        }
      }
    }
  }
}

TYPED_TEST(CrossEntropy, ExtremeLogitsStayFinite) {
  using Real = TypeParam;
  constexpr std::int64_t N = 6, V = 40;
  Tensor<Real> logits({N, V}, 0);
  for (std::int64_t i = 0; i < N * V; ++i) logits[i] = Real(i % 2 == 0 ? 1e4 : -1e4);
  for (std::int64_t j = 0; j < V; ++j) logits[j] = Real(-1e4), logits[V + j] = Real(1e4);
  Tensor<std::int32_t> targets({N}, 1);
  for (const std::int64_t tile : {V, std::int64_t{7}, std::int64_t{1}}) {
    const auto capped = run<Real>(logits, targets, tile, 1, true, 30);
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

TEST(CrossEntropyGradient, IsTheDifferenceOfLosses) {
  for (const double softcap : {0.0, 3.0}) {
    auto logits = Tensor<double>::noise({6, 17}, 2, 2);
    const auto targets = some_targets(6, 17, true);
    const auto gradient = run<double>(logits, targets, 5, 1, true, softcap).logits;
    expect_gradient(
        logits, gradient,
        [&] {
          const auto result = run<double>(logits, targets, 17, 1, false, softcap);
          return result.total[0] / result.total[1];
        },
        "logits");
  }
}

TYPED_TEST(CrossEntropy, LogitsForReadersAreCappedToo) {
  using Real = TypeParam;
  auto z = Tensor<Real>::noise({3, 50}, 5, 20);
  z[7] = Real(1e30), z[8] = Real(-1e30);
  const auto before = z;
  softcap_logits(device_of(2), {z.view(), 7});
  for (std::int64_t i = 0; i < 150; ++i)
    EXPECT_NEAR(z[i], 7 * std::tanh(static_cast<double>(before[i]) / 7), 10 * kTolerance<Real>);
  EXPECT_EQ(z[7], 7);
  EXPECT_EQ(z[8], -7);
}

TYPED_TEST(CrossEntropy, TheLikeliestTokensAndTheHitsAmongThemAreThoseOfASort) {
  using Real = TypeParam;
  for (const auto& [N, V] : {std::pair{1, 1}, {5, 3}, {37, 301}, {20, 1500}}) {
    auto logits = Tensor<Real>::noise({N, V}, 4, 3);
    for (Real& x : logits.data) x = std::round(x * 4) / 4;  // ties everywhere
    auto targets = some_targets(N, V, true);
    Tensor<std::int32_t> expected({N, kLikeliest}, -1);
    double first = 0, any = 0;
    for (std::int64_t n = 0; n < N; ++n) {
      std::vector<std::int32_t> ids(static_cast<std::size_t>(V));
      std::iota(ids.begin(), ids.end(), 0);
      std::stable_sort(ids.begin(), ids.end(),
                       [&](std::int32_t a, std::int32_t b) { return logits[n * V + a] > logits[n * V + b]; });
      for (std::int64_t i = 0; i < std::min<std::int64_t>(V, kLikeliest); ++i) {
        expected[n * kLikeliest + i] = ids[static_cast<std::size_t>(i)];
        first += i == 0 && targets[n] == ids[0];
        any += targets[n] == ids[static_cast<std::size_t>(i)];
      }
    }
    for (const std::int64_t tile : {V, (V + 1) / 2, 7, 1}) {
      SCOPED_TRACE(testing::Message() << N << " x " << V << " in tiles of " << tile);
      auto logit = Tensor<Real>::poisoned({N, kLikeliest});
      Tensor<std::int32_t> token({N, kLikeliest}, -7);
      auto hits = Tensor<double>::poisoned({2});
      CpuDevice& device = device_of(2);
      for (std::int64_t from = 0; from < V; from += tile) {
        likeliest_tokens(device,
                         {logits.view().columns(from, std::min<std::int64_t>(tile, V - from)), from, logit.view(), token.view()});
      }
      count_hits(device, {token.view(), targets.view(), hits.view()});
      expect_same_bits(token, expected, "token");
      for (std::int64_t n = 0; n < N * kLikeliest; ++n) {
        EXPECT_EQ(logit[n], token[n] < 0 ? -std::numeric_limits<Real>::infinity() : logits[n / kLikeliest * V + token[n]]);
      }
      EXPECT_EQ(hits[0], first);
      EXPECT_EQ(hits[1], any);
    }
  }
}

}  // namespace
}  // namespace neurogen
