#include "kernels/heads.h"

#include "arena/error.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

constexpr std::int64_t kBatch = 3, kWindow = 7, kRows = kBatch * kWindow, kQueries = 4, kKeys = 2, kWidth = 10,
                       kColumns = (kQueries + 2 * kKeys) * kWidth, kNormed = kQueries + kKeys;
constexpr double kTheta = 100;

// Which parts there are.
struct Parts {
  bool bias, norm, rotary;
};
void PrintTo(const Parts& p, std::ostream* out) {
  *out << (p.bias ? "bias" : "") << (p.norm ? "norm" : "") << (p.rotary ? "rotary" : "");
}

template <typename Real>
struct Case {
  using T = Tensor<Real>;
  Parts parts;
  T x = T::noise({kRows, kColumns}, 1), d_out = T::noise({kRows, kColumns}, 2);
  T query_bias = bias(kQueries, 3), key_bias = bias(kKeys, 4), value_bias = bias(kKeys, 5);
  T table = parts.rotary ? T::poisoned({kWindow, kWidth}) : T(), inverse = parts.norm ? T::poisoned({kRows, kNormed}) : T();
  T out = x, d_x = d_out, d_query_bias = poisoned(query_bias), d_key_bias = poisoned(key_bias), d_value_bias = poisoned(value_bias),
    sums = parts.bias ? T::poisoned({row_parts(kRows), kColumns}) : T();

  explicit Case(Parts p) : parts(p) {}
  T bias(std::int64_t heads, unsigned seed) const { return parts.bias ? T::noise({heads * kWidth}, seed) : T(); }
  static T poisoned(const T& like) { return like.data.empty() ? T() : T::poisoned(like.shape); }
  void forward(int threads) {
    if (parts.rotary) rotary_table(device_of(threads), {kTheta, {}, table.view()});
    out = x;
    heads_forward(
        device_of(threads),
        {{kQueries, kKeys}, query_bias.view(), key_bias.view(), value_bias.view(), table.view(), 1e-3, inverse.view(), out.view()});
  }
  void backward(int threads) {
    d_x = d_out;
    heads_backward(device_of(threads), {{kQueries, kKeys},
                                        table.view(),
                                        inverse.view(),
                                        out.view(),
                                        d_x.view(),
                                        d_query_bias.view(),
                                        d_key_bias.view(),
                                        d_value_bias.view(),
                                        sums.view()});
  }
};

class Heads : public testing::TestWithParam<Parts> {};

TEST_P(Heads, EqualTheFormulaAndItsGradients) {
  Case<double> a(GetParam());
  a.forward(2);
  for (std::int64_t n = 0; n < kRows; ++n) {
    for (std::int64_t head = 0; head < kQueries + 2 * kKeys; ++head) {
      const bool value = head >= kNormed;
      double x[kWidth], squares = 0;
      for (std::int64_t i = 0; i < kWidth; ++i) {
        const std::int64_t column = head * kWidth + i;
        x[i] = a.x[n * kColumns + column];
        if (a.parts.bias)
          x[i] += head < kQueries ? a.query_bias[column]
                  : value         ? a.value_bias[column - kNormed * kWidth]
                                  : a.key_bias[column - kQueries * kWidth];
        squares += x[i] * x[i] / kWidth;
      }
      for (double& one : x) one *= a.parts.norm && !value ? 1 / std::sqrt(squares + 1e-3) : 1;
      for (std::int64_t i = 0; i < kWidth; ++i) {
        const std::int64_t pair = i % (kWidth / 2);
        const double angle = static_cast<double>(n % kWindow) * std::pow(kTheta, -2.0 * static_cast<double>(pair) / kWidth);
        const double low = x[pair], high = x[pair + kWidth / 2];
        const double turned =
            i < kWidth / 2 ? low * std::cos(angle) - high * std::sin(angle) : high * std::cos(angle) + low * std::sin(angle);
        EXPECT_NEAR(a.out[n * kColumns + head * kWidth + i], a.parts.rotary && !value ? turned : x[i], 1e-13);
      }
    }
  }
  a.backward(2);
  const auto loss = [&] {
    a.forward(1);
    return inner(a.out, a.d_out);
  };
  expect_gradient(a.x, a.d_x, loss, "x");
  if (!a.parts.bias) return;
  expect_gradient(a.query_bias, a.d_query_bias, loss, "query_bias");
  expect_gradient(a.key_bias, a.d_key_bias, loss, "key_bias");
  expect_gradient(a.value_bias, a.d_value_bias, loss, "value_bias");
}

TEST_P(Heads, ThreadsAndPrecisionChangeNothing) {
  Case<float> one(GetParam()), three(GetParam());
  Case<double> exact(GetParam());
  one.forward(1), three.forward(3), exact.forward(1);
  one.backward(1), three.backward(3), exact.backward(1);
  expect_same_bits(one.out, three.out, "out");
  expect_same_bits(one.d_x, three.d_x, "d_x");
  expect_same_bits(one.d_key_bias, three.d_key_bias, "d_key_bias");
  expect_close(one.out, exact.out, 1e-5, "out");
  expect_close(one.d_x, exact.d_x, 1e-4, "d_x");
}

INSTANTIATE_TEST_SUITE_P(Parts, Heads,
                         testing::Values(Parts{true, false, false}, Parts{false, true, true}, Parts{true, false, true},
                                         Parts{true, true, true}),
                         testing::PrintToStringParamName());

TEST(RotaryPositions, OfOneTokenAreARowOfTheTable) {
  Tensor<double> all = Tensor<double>::poisoned({40, 16}), one = Tensor<double>::poisoned({1, 16});
  Tensor<std::int64_t> position({1}, 33);
  rotary_table(device_of(2), {kTheta, {}, all.view()});
  rotary_table(device_of(1), {kTheta, position.view(), one.view()});
  for (std::int64_t i = 0; i < 16; ++i) EXPECT_EQ(one[i], all[33 * 16 + i]);
}

}  // namespace
}  // namespace neurogen
