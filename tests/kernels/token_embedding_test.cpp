#include "kernels/token_embedding.h"

#include "kernels/embedding.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

constexpr std::int64_t kWindow = 12, kRows = 3 * kWindow, kWidth = 40, kVocabulary = 17, kContext = 15;

// With learned positions and a norm; the last window has a second document from its sixth token on.
template <typename Real>
struct Case {
  using T = Tensor<Real>;
  T weight = T::noise({kVocabulary, kWidth}, 1), positions = T::noise({kContext, kWidth}, 2), out = T::poisoned({kRows, kWidth}),
    inverse = T::poisoned({kRows}), d_out = T::noise({kRows, kWidth}, 3), d_x = d_out;
  Tensor<std::int32_t> ids{{kRows}, 0}, first{{kRows}, 0}, places = Tensor<std::int32_t>::poisoned({kRows});

  Case() {
    for (std::int64_t n = 0; n < kRows; ++n) ids[n] = static_cast<std::int32_t>(n * n % (kVocabulary - 1));
    for (std::int64_t n = kRows - kWindow + 5; n < kRows; ++n) first[n] = 5;
  }
  void forward(int threads) {
    token_places(device_of(threads), {first.view(), kWindow, {}, 0, places.view()});
    token_embedding_forward(device_of(threads),
                            {ids.view(), weight.view(), places.view(), positions.view(), 1e-3, out.view(), inverse.view()});
  }
  void backward(int threads) {
    d_x = d_out;
    token_embedding_backward(device_of(threads), {out.view(), inverse.view(), d_x.view()});
  }
  // Of a whole table, by the rows that `rows` touch, on top of what is there.
  T table_gradient(Tensor<std::int32_t>& rows, std::int64_t height, Real before) {
    using Ints = Tensor<std::int32_t>;
    Ints histogram({height}, 0), touched = Ints::poisoned({kRows}), start = Ints::poisoned({kRows + 1}), order = touched,
                                 count({1}, 0);
    touched_rows(device_of(2), {rows.view(), height, histogram.view(), touched.view(), start.view(), order.view(), count.view()});
    T d_table({height, kWidth}, before);
    row_gradients(device_of(2), {d_x.view(), start.view(), order.view(), count.view(), 1, d_table.view(), touched.view()});
    return d_table;
  }
};

TEST(TokenEmbedding, EqualsTheFormulaAndItsGradients) {
  Case<double> a;
  a.forward(2);
  for (std::int64_t n = 0; n < kRows; ++n) {
    const std::int64_t place = n % kWindow - (n >= kRows - kWindow + 5 ? 5 : 0);
    double squares = 0;
    const auto x = [&](std::int64_t i) { return a.weight[a.ids[n] * kWidth + i] + a.positions[place * kWidth + i]; };
    for (std::int64_t i = 0; i < kWidth; ++i) squares += x(i) * x(i) / kWidth;
    for (std::int64_t i = 0; i < kWidth; ++i) EXPECT_NEAR(a.out[n * kWidth + i], x(i) / std::sqrt(squares + 1e-3), 1e-13);
  }
  a.backward(2);
  const auto loss = [&] {
    a.forward(1);
    return inner(a.out, a.d_out);
  };
  Tensor<double> d_weight = a.table_gradient(a.ids, kVocabulary, 0), added = a.table_gradient(a.ids, kVocabulary, 2);
  expect_gradient(a.weight, d_weight, loss, "weight");
  expect_gradient(a.positions, a.table_gradient(a.places, kContext, 0), loss, "positions");
  for (double& g : d_weight.data) g += 2;
  expect_close(added, d_weight, 1e-14, "a gradient on top of another");
}

TEST(TokenEmbedding, ThreadsAndPrecisionChangeNothing) {
  Case<float> one, three;
  Case<double> exact;
  one.forward(1), three.forward(3), exact.forward(1);
  one.backward(1), three.backward(3), exact.backward(1);
  expect_same_bits(one.out, three.out, "out");
  expect_same_bits(one.d_x, three.d_x, "d_x");
  expect_close(one.out, exact.out, 1e-6, "out");
  expect_close(one.d_x, exact.d_x, 1e-5, "d_x");
}

TEST(TokenEmbedding, WithoutNormAndPositionsIsTheRow) {
  Case<double> a;
  token_embedding_forward(device_of(2), {a.ids.view(), a.weight.view(), {}, {}, 1e-3, a.out.view(), {}});
  for (std::int64_t i = 0; i < kRows * kWidth; ++i) EXPECT_EQ(a.out[i], a.weight[a.ids[i / kWidth] * kWidth + i % kWidth]);
}

TEST(TokenEmbedding, AStreamsPlaceCountsFromItsDocument) {
  Tensor<std::int64_t> position({2}, 0);
  Tensor<std::int32_t> place({1}, -1);
  position[0] = 1007, position[1] = 1000;
  token_places(device_of(1), {{}, 0, position.view(), kContext - 1, place.view()});
  EXPECT_EQ(place[0], 7);
}

}  // namespace
}  // namespace neurogen
