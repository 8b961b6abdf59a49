#include "kernels/embedding.h"

#include "arena/error.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 60, kVocabulary = 23, kWidth = 64;

template <typename Real>
struct Embedding {
  Tensor<std::int32_t> ids{{kTokens}, 0},
      histogram = Tensor<std::int32_t>::poisoned({kVocabulary}), rows = Tensor<std::int32_t>::poisoned({kVocabulary}),
      row_start = Tensor<std::int32_t>::poisoned({kVocabulary + 1}), order = Tensor<std::int32_t>::poisoned({kTokens}),
      count = Tensor<std::int32_t>::poisoned({1});
  Tensor<Real> weight = Tensor<Real>::noise({kVocabulary, kWidth}, 1, 0.25), gain = Tensor<Real>::noise({kWidth}, 2, 0.3, 1);
  Tensor<Real> d_out = Tensor<Real>::noise({kTokens, kWidth}, 3), out = Tensor<Real>::poisoned({kTokens, kWidth});
  Tensor<Real> inverse_rms = Tensor<Real>::poisoned({kTokens}), d_rows = Tensor<Real>::poisoned({kVocabulary, kWidth});
  Tensor<Real> d_gain = Tensor<Real>::poisoned({kWidth});

  // Some ids occur often, some never, among them the last.
  Embedding() {
    for (std::int64_t n = 0; n < kTokens; ++n) ids[n] = static_cast<std::int32_t>(n * n * 7 % kVocabulary);
    ids[11] = kVocabulary - 1;
  }
  void forward(int threads) {
    embedding_forward(
        device_of(threads),
        {.ids = ids.view(), .weight = weight.view(), .gain = gain.view(), .out = out.view(), .inverse_rms = inverse_rms.view()});
  }
  void backward(int threads) {
    embedding_rows(device_of(threads), {.ids = ids.view(),
                                        .vocabulary = kVocabulary,
                                        .histogram = histogram.view(),
                                        .rows = rows.view(),
                                        .row_start = row_start.view(),
                                        .order = order.view(),
                                        .count = count.view()});
    embedding_backward(device_of(threads), {.d_out = d_out.view(),
                                            .weight = weight.view(),
                                            .gain = gain.view(),
                                            .inverse_rms = inverse_rms.view(),
                                            .rows = rows.view(),
                                            .row_start = row_start.view(),
                                            .order = order.view(),
                                            .count = count.view(),
                                            .d_rows = d_rows.view(),
                                            .d_gain = d_gain.view()});
  }
};

TEST(Embedding, RowsAreTheTouchedIdsInOrder) {
  Embedding<double> a;
  a.forward(1);
  a.backward(1);
  std::vector<std::int32_t> sorted = a.ids.data;
  std::sort(sorted.begin(), sorted.end());
  sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
  ASSERT_EQ(a.count[0], static_cast<std::int32_t>(sorted.size()));
  ASSERT_LT(a.count[0], kVocabulary);
  for (std::int32_t i = 0; i < a.count[0]; ++i) {
    EXPECT_EQ(a.rows[i], sorted[static_cast<std::size_t>(i)]);
    for (std::int32_t n = a.row_start[i]; n < a.row_start[i + 1]; ++n) {
      EXPECT_EQ(a.ids[a.order[n]], a.rows[i]);
      EXPECT_TRUE(n == a.row_start[i] || a.order[n] > a.order[n - 1]);
    }
  }
  EXPECT_EQ(a.row_start[0], 0);
  EXPECT_EQ(a.row_start[a.count[0]], kTokens);
}

TEST(Embedding, GradientsEqualDifferences) {
  Embedding<double> a;
  a.forward(2);
  a.backward(2);
  Tensor<double> d_weight({kVocabulary, kWidth}, 0);
  for (std::int32_t i = 0; i < a.count[0]; ++i) std::copy_n(&a.d_rows[i * kWidth], kWidth, &d_weight[a.rows[i] * kWidth]);
  EXPECT_TRUE(std::isnan(a.d_rows[a.count[0] * kWidth])) << "only touched rows are written";
  const auto loss = [&] {
    a.forward(1);
    return inner(a.out, a.d_out);
  };
  expect_gradient(a.weight, d_weight, loss, "weight");
  expect_gradient(a.gain, a.d_gain, loss, "gain");
}

TEST(Embedding, ThreadsAndPrecisionChangeNothing) {
  Embedding<float> one, three;
  Embedding<double> exact;
  one.forward(1), three.forward(3), exact.forward(1);
  one.backward(1), three.backward(3), exact.backward(1);
  expect_same_bits(one.out, three.out, "out");
  expect_same_bits(one.d_gain, three.d_gain, "d_gain");
  EXPECT_EQ(std::memcmp(one.d_rows.data.data(), three.d_rows.data.data(), one.d_rows.data.size() * sizeof(float)), 0);
  expect_close(one.out, exact.out, 1e-6, "out");
  expect_close(one.d_gain, exact.d_gain, 1e-5, "d_gain");
}

}  // namespace
}  // namespace neurogen
