#include "kernels/activation.h"

#include "arena/error.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

constexpr std::int64_t kRows = 41, kWidth = 35;

struct Kind {
  Activation activation;
  bool bias;
  bool gated() const { return activation == Activation::silu_gated; }
};
void PrintTo(const Kind& k, std::ostream* out) {
  *out << (k.activation == Activation::relu2 ? "relu2" : k.gated() ? "silu_gated" : "gelu_tanh") << (k.bias ? "_bias" : "");
}

template <typename Real>
struct Case {
  using T = Tensor<Real>;
  Kind kind;
  T up = T::noise({kRows, kWidth}, 1, 2), gate = kind.gated() ? T::noise({kRows, kWidth}, 2, 2) : T();
  T up_bias = kind.bias ? T::noise({kWidth}, 3) : T(), gate_bias = kind.bias && kind.gated() ? T::noise({kWidth}, 4) : T();
  T d_out = T::noise({kRows, kWidth}, 5), out = T::poisoned({kRows, kWidth});
  T again = up, d_gate = gate, d_up = d_out, d_up_bias = kind.bias ? T::poisoned({kWidth}) : T(),
    d_gate_bias = gate_bias.data.empty() ? T() : d_up_bias, sums = kind.bias ? T::poisoned({row_parts(kRows), 2 * kWidth}) : T();

  explicit Case(Kind k) : kind(k) {}
  void forward(int threads) {
    activation_forward(device_of(threads), {kind.activation, up.view(), gate.view(), up_bias.view(), gate_bias.view(), out.view()});
  }
  void backward(int threads) {
    again = up, d_gate = gate, d_up = d_out;
    activation_backward(device_of(threads), {kind.activation, again.view(), d_gate.view(), up_bias.view(), gate_bias.view(),
                                             d_up.view(), d_up_bias.view(), d_gate_bias.view(), sums.view()});
  }
};

class ActivationOf : public testing::TestWithParam<Kind> {};

TEST_P(ActivationOf, EqualsTheFormulaAndItsGradients) {
  Case<double> a(GetParam());
  a.forward(2);
  for (std::int64_t i = 0; i < kRows * kWidth; ++i) {
    const double u = a.up[i] + (a.kind.bias ? a.up_bias[i % kWidth] : 0);
    const double g = a.kind.gated() ? a.gate[i] + (a.kind.bias ? a.gate_bias[i % kWidth] : 0) : 0;
    const double gelu = u / 2 * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (u + 0.044715 * u * u * u)));
    const double relu2 = std::max(0.0, u) * std::max(0.0, u);
    EXPECT_NEAR(a.out[i],
                a.kind.gated()                               ? g / (1 + std::exp(-g)) * u
                : a.kind.activation == Activation::gelu_tanh ? gelu
                                                             : relu2,
                1e-13);
  }
  a.backward(2);
  expect_same_bits(a.again, a.out, "the output once more");
  const auto loss = [&] {
    a.forward(1);
    return inner(a.out, a.d_out);
  };
  expect_gradient(a.up, a.d_up, loss, "up");
  if (a.kind.gated()) expect_gradient(a.gate, a.d_gate, loss, "gate");
  if (a.kind.bias) expect_gradient(a.up_bias, a.d_up_bias, loss, "up_bias");
  if (a.kind.bias && a.kind.gated()) expect_gradient(a.gate_bias, a.d_gate_bias, loss, "gate_bias");
}

TEST_P(ActivationOf, ThreadsPrecisionAndPlaceChangeNothing) {
  Case<float> one(GetParam()), three(GetParam());
  Case<double> exact(GetParam());
  one.forward(1), three.forward(3), exact.forward(1);
  one.backward(1), three.backward(3), exact.backward(1);
  expect_same_bits(one.out, three.out, "out");
  expect_same_bits(one.d_up, three.d_up, "d_up");
  expect_same_bits(one.d_gate, three.d_gate, "d_gate");
  expect_same_bits(one.d_up_bias, three.d_up_bias, "d_up_bias");
  expect_close(one.out, exact.out, 1e-5, "out");
  expect_close(one.d_up, exact.d_up, 1e-5, "d_up");
  activation_forward(device_of(2), {three.kind.activation, three.up.view(), three.gate.view(), three.up_bias.view(),
                                    three.gate_bias.view(), three.up.view()});
  expect_same_bits(three.up, one.out, "in place");
}

INSTANTIATE_TEST_SUITE_P(Kinds, ActivationOf,
                         testing::Values(Kind{Activation::gelu_tanh, true}, Kind{Activation::gelu_tanh, false},
                                         Kind{Activation::silu_gated, false}, Kind{Activation::silu_gated, true},
                                         Kind{Activation::relu2, false}, Kind{Activation::relu2, true}),
                         testing::PrintToStringParamName());

TEST(ActivationOperands, AGateBelongsToTheGatedOne) {
  Case<float> a({Activation::relu2, false});
  a.gate = a.up;
  EXPECT_THROW(a.forward(1), Error);
}

}  // namespace
}  // namespace neurogen
