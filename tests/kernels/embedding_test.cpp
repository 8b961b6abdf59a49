#include "kernels/embedding.h"

#include "arena/error.h"
#include "kernels/documents.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 60, kVocabulary = 23, kPairs = 31, kWidth = 64;

// A table, and the gradient of its touched rows.
template <typename Real>
struct Table {
  Tensor<Real> values;
  Tensor<std::int32_t> ids{{kTokens}, 0};
  double scale;
  std::int64_t rows_in_all = values.shape[0];
  Tensor<std::int32_t> histogram = Tensor<std::int32_t>::poisoned({rows_in_all}), rows = histogram,
                       row_start = Tensor<std::int32_t>::poisoned({rows_in_all + 1}),
                       order = Tensor<std::int32_t>::poisoned({kTokens}), count = Tensor<std::int32_t>::poisoned({1});
  Tensor<Real> d_rows = Tensor<Real>::poisoned({rows_in_all, kWidth});

  Table(Tensor<Real> start, double times) : values(std::move(start)), scale(times) {}
  void gradient(int threads, Tensor<Real>& d_x) {
    touched_rows(device_of(threads), {.ids = ids.view(),
                                      .table_rows = rows_in_all,
                                      .histogram = histogram.view(),
                                      .rows = rows.view(),
                                      .row_start = row_start.view(),
                                      .order = order.view(),
                                      .count = count.view()});
    row_gradients(device_of(threads), {.d_x = d_x.view(),
                                       .row_start = row_start.view(),
                                       .order = order.view(),
                                       .count = count.view(),
                                       .scale = scale,
                                       .d_rows = d_rows.view()});
  }
  // Of all rows; those that are not touched have none.
  Tensor<Real> whole_gradient() const {
    Tensor<Real> whole({rows_in_all, kWidth}, 0);
    for (std::int32_t i = 0; i < count[0]; ++i) std::copy_n(&d_rows[i * kWidth], kWidth, &whole[rows[i] * kWidth]);
    return whole;
  }
};

template <typename Real>
struct Embedding {
  bool with_pairs;
  Table<Real> weight{Tensor<Real>::noise({kVocabulary, kWidth}, 1, 0.25), 1},
      pairs{Tensor<Real>::noise({kPairs, kWidth}, 4, 0.5), kPairScale};
  Tensor<Real> gain = Tensor<Real>::noise({kWidth}, 2, 0.3, 1), out = Tensor<Real>::poisoned({kTokens, kWidth});
  Tensor<Real> inverse_rms = Tensor<Real>::poisoned({kTokens}), d_gain = Tensor<Real>::poisoned({kWidth});
  Tensor<Real> d_out = Tensor<Real>::noise({kTokens, kWidth}, 3), d_x = d_out;

  // Some rows occur often, some never, among them the last.
  explicit Embedding(bool with) : with_pairs(with) {
    for (std::int64_t n = 0; n < kTokens; ++n) {
      weight.ids[n] = static_cast<std::int32_t>(n * n * 7 % kVocabulary);
      pairs.ids[n] = static_cast<std::int32_t>(n * n * 5 % kPairs);
    }
    weight.ids[11] = kVocabulary - 1;
  }
  EmbeddingRows rows() {
    return {weight.ids.view(), weight.values.view(), with_pairs ? pairs.ids.view() : TensorView{},
            with_pairs ? pairs.values.view() : TensorView{}};
  }
  void forward(int threads) {
    embedding_forward(device_of(threads),
                      {.rows = rows(), .gain = gain.view(), .out = out.view(), .inverse_rms = inverse_rms.view()});
  }
  void backward(int threads) {
    embedding_backward(
        device_of(threads),
        {.rows = rows(), .gain = gain.view(), .inverse_rms = inverse_rms.view(), .d_out = d_x.view(), .d_gain = d_gain.view()});
    weight.gradient(threads, d_x);
    if (with_pairs) pairs.gradient(threads, d_x);
  }
};

TEST(PairRows, AreHashesOfATokenAndTheOneBeforeInItsDocumentAndWindow) {
  Tensor<std::int32_t> ids({8}, 0), first({8}, 0), rows = Tensor<std::int32_t>::poisoned({8});
  ids.data = {65000, 9, 1, 7, 40000, 2, 9, 65535};
  documents(device_of(1), {ids.view(), 4, 9, first.view()});
  const std::vector<std::int64_t> before = {0, 65000, 0, 1, 0, 40000, 2, 0};  // 9 ends a document
  for (const std::int64_t table : {1, 7, 65536, 250'000}) {
    const auto expected = [&](std::size_t n) { return (ids.data[n] * std::int64_t{1000003} + before[n] * 998244353) % table; };
    pair_rows(device_of(2),
              {.ids = ids.view(), .first = first.view(), .window = 4, .pairs = table, .last = {}, .rows = rows.view()});
    for (std::size_t n = 0; n < 8; ++n) EXPECT_EQ(rows.data[n], expected(n)) << n;
    // Token by token; memory is cleared where a window or a document begins.
    Tensor<std::int32_t> last({1}, 0), one({1}, 0), row({1}, -1);
    for (std::size_t n = 0; n < 8; ++n) {
      if (static_cast<std::size_t>(first.data[n]) == n % 4) last[0] = 0;
      one[0] = ids.data[n];
      pair_rows(device_of(1), {.ids = one.view(), .first = {}, .pairs = table, .last = last.view(), .rows = row.view()});
      EXPECT_EQ(row[0], expected(n)) << n;
      EXPECT_EQ(last[0], ids.data[n]);
    }
  }
  EXPECT_THROW(pair_rows(device_of(1), {ids.view(), first.view(), 4, 0, {}, rows.view()}), Error);
  EXPECT_THROW(pair_rows(device_of(1), {ids.view(), {}, 4, 7, ids.view(), rows.view()}), Error) << "a stream of 8 tokens at once";
}

TEST(TouchedRows, AreTheIdsInOrder) {
  Embedding<double> a(true);
  a.forward(1);
  a.backward(1);
  for (const auto* t : {&a.weight, &a.pairs}) {
    std::vector<std::int32_t> sorted = t->ids.data;
    std::sort(sorted.begin(), sorted.end());
    sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
    ASSERT_EQ(t->count[0], static_cast<std::int32_t>(sorted.size()));
    ASSERT_LT(t->count[0], t->rows_in_all);
    for (std::int32_t i = 0; i < t->count[0]; ++i) {
      EXPECT_EQ(t->rows[i], sorted[static_cast<std::size_t>(i)]);
      for (std::int32_t n = t->row_start[i]; n < t->row_start[i + 1]; ++n) {
        EXPECT_EQ(t->ids[t->order[n]], t->rows[i]);
        EXPECT_TRUE(n == t->row_start[i] || t->order[n] > t->order[n - 1]);
      }
    }
    EXPECT_EQ(t->row_start[0], 0);
    EXPECT_EQ(t->row_start[t->count[0]], kTokens);
    EXPECT_TRUE(std::isnan(t->d_rows[t->count[0] * kWidth])) << "only touched rows are written";
  }
}

TEST(Embedding, IsTheNormOfBothRows) {
  for (const bool with_pairs : {false, true}) {
    Embedding<double> a(with_pairs);
    a.forward(2);
    for (std::int64_t n = 0; n < kTokens; ++n) {
      std::vector<double> x;
      double squares = 0;
      for (std::int64_t e = 0; e < kWidth; ++e) {
        x.push_back(a.weight.values[a.weight.ids[n] * kWidth + e] +
                    (with_pairs ? 0.25 * a.pairs.values[a.pairs.ids[n] * kWidth + e] : 0));
        squares += x.back() * x.back();
      }
      const double inverse = 1 / std::sqrt(squares / kWidth + 1e-5);
      EXPECT_NEAR(a.inverse_rms[n], inverse, 1e-13);
      for (std::int64_t e = 0; e < kWidth; ++e)
        EXPECT_NEAR(a.out[n * kWidth + e], x[static_cast<std::size_t>(e)] * inverse * a.gain[e], 1e-13);
    }
  }
}

TEST(Embedding, GradientsEqualDifferences) {
  for (const bool with_pairs : {false, true}) {
    Embedding<double> a(with_pairs);
    a.forward(2);
    a.backward(2);
    const auto loss = [&] {
      a.forward(1);
      return inner(a.out, a.d_out);
    };
    expect_gradient(a.weight.values, a.weight.whole_gradient(), loss, "weight");
    if (with_pairs) expect_gradient(a.pairs.values, a.pairs.whole_gradient(), loss, "pairs");
    expect_gradient(a.gain, a.d_gain, loss, "gain");
  }
}

TEST(Embedding, ThreadsAndPrecisionChangeNothing) {
  Embedding<float> one(true), three(true);
  Embedding<double> exact(true);
  one.forward(1), three.forward(3), exact.forward(1);
  one.backward(1), three.backward(3), exact.backward(1);
  expect_same_bits(one.out, three.out, "out");
  expect_same_bits(one.d_gain, three.d_gain, "d_gain");
  expect_same_bits(one.weight.whole_gradient(), three.weight.whole_gradient(), "d_weight");
  expect_same_bits(one.pairs.whole_gradient(), three.pairs.whole_gradient(), "d_pairs");
  expect_close(one.out, exact.out, 1e-6, "out");
  expect_close(one.d_gain, exact.d_gain, 1e-5, "d_gain");
  expect_close(one.weight.whole_gradient(), exact.weight.whole_gradient(), 1e-5, "d_weight");
  expect_close(one.pairs.whole_gradient(), exact.pairs.whole_gradient(), 1e-5, "d_pairs");
}

}  // namespace
}  // namespace neurogen
