#include "kernels/brain/microcircuit.h"

#include "arena/error.h"
#include "kernels/brain/synapses.h"
#include "kernels/rms_norm.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

constexpr std::int64_t kGroups = 2, kOutputs = kGroups * kGroup, kWindow = 11, kWindows = 3, kTokens = kWindow * kWindows;

struct Kind {
  std::int64_t roles, stripe;  // stripe 0: no gate
  bool residual;
};

// A module with the norm after it, and all outputs of its backward pass.
template <typename Real>
struct Circuit {
  using T = Tensor<Real>;
  Kind kind;
  std::int64_t columns = kind.roles * kGroup, openers = kind.stripe ? kOutputs / kind.stripe : 0;
  T currents = T::noise({kGroups, kTokens, columns}, 1), retain = T::noise({kOutputs}, 2, 1, 1),
    gain = T::noise({kOutputs}, 3, 0.3, 1);
  T opener = T::noise({kTokens, openers}, 4), gate_bias = T::noise({openers}, 5, 0.5, 1);
  T residual = kind.residual ? T::noise({kTokens, kOutputs}, 6) : T(), d_out = T::noise({kTokens, kOutputs}, 7);
  Tensor<std::int32_t> first{{kTokens}, 0};
  T pre_norm = T::poisoned({kTokens, kOutputs}), out = pre_norm, inverse_rms = T::poisoned({kTokens}), dot = inverse_rms;
  T hidden = T::poisoned({kGroups, kTokens, kGroup}), d_currents = T::poisoned({kGroups, kTokens, columns});
  T d_retain{{kOutputs}, 0}, d_gain{{kOutputs}, 0};
  T d_residual = kind.residual ? T({kTokens, kOutputs}, 0) : T(), d_gate = kind.stripe ? T::poisoned({kTokens, kOutputs}) : T();
  T d_opener = T::poisoned({kTokens, openers}), d_gate_bias{{openers}, 0};

  // The second window holds three documents, the third two, of which one is a single token.
  explicit Circuit(Kind k) : kind(k) {
    for (std::int64_t t = 0; t < kWindow; ++t) first[kWindow + t] = t < 4 ? 0 : t < 9 ? 4 : 9;
    for (std::int64_t t = 1; t < kWindow; ++t) first[2 * kWindow + t] = 1;
  }

  Gate gate(std::int64_t group, std::int64_t token, std::int64_t tokens) {
    if (!kind.stripe) return {};
    return {opener.view().rows(token, tokens), gate_bias.view(), kind.stripe, group * kGroup};
  }
  static TensorView part(T& x, std::int64_t token, std::int64_t tokens, std::int64_t group, std::int64_t groups) {
    return x.data.empty() ? TensorView{} : x.view().rows(token, tokens).columns(group * kGroup, groups * kGroup);
  }
  // Groups' currents of a section of tokens, packed like a section's own tensor.
  static T packed(const T& x, std::int64_t group, std::int64_t groups, std::int64_t token, std::int64_t tokens) {
    T y({groups, tokens, x.shape[2]}, 0);
    for (std::int64_t g = 0; g < groups; ++g)
      std::copy_n(&x[((group + g) * kTokens + token) * x.shape[2]], tokens * x.shape[2], &y[g * tokens * x.shape[2]]);
    return y;
  }
  static void unpack(const T& y, T& x, std::int64_t group, std::int64_t token) {
    const std::int64_t size = y.shape[1] * y.shape[2];
    for (std::int64_t g = 0; g < y.shape[0]; ++g) std::copy_n(&y[g * size], size, &x[((group + g) * kTokens + token) * x.shape[2]]);
  }

  void forward_part(int threads, std::int64_t group, std::int64_t groups, std::int64_t token, std::int64_t tokens) {
    T u = packed(currents, group, groups, token, tokens);
    microcircuit_forward(device_of(threads), {.currents = u.view(),
                                              .retain = retain.view().rows(group * kGroup, groups * kGroup),
                                              .first = first.view().rows(token, tokens),
                                              .window = kWindow,
                                              .gate = gate(group, token, tokens),
                                              .residual = part(residual, token, tokens, group, groups),
                                              .state = {},
                                              .pre_norm = part(pre_norm, token, tokens, group, groups)});
  }
  void norm(int threads) {
    rms_norm_forward(device_of(threads),
                     {.x = pre_norm.view(), .gain = gain.view(), .out = out.view(), .inverse_rms = inverse_rms.view()});
    rms_norm_backward_dot(device_of(threads), {.d_out = d_out.view(), .out = out.view(), .dot = dot.view()});
  }
  void forward(int threads) {
    forward_part(threads, 0, kGroups, 0, kTokens);
    norm(threads);
  }
  void backward_part(int threads, std::int64_t group, std::int64_t groups, std::int64_t token, std::int64_t tokens) {
    T u = packed(currents, group, groups, token, tokens), d_u = T::poisoned(u.shape), h = T::poisoned({groups, tokens, kGroup});
    const std::int64_t output = group * kGroup, outputs = groups * kGroup;
    microcircuit_backward(device_of(threads), {.currents = u.view(),
                                               .retain = retain.view().rows(output, outputs),
                                               .first = first.view().rows(token, tokens),
                                               .window = kWindow,
                                               .gate = gate(group, token, tokens),
                                               .residual = part(residual, token, tokens, group, groups),
                                               .d_out = part(d_out, token, tokens, group, groups),
                                               .inverse_rms = inverse_rms.view().rows(token, tokens),
                                               .dot = dot.view().rows(token, tokens),
                                               .gain = gain.view().rows(output, outputs),
                                               .hidden = h.view(),
                                               .d_currents = d_u.view(),
                                               .d_retain = d_retain.view().rows(output, outputs),
                                               .d_gain = d_gain.view().rows(output, outputs),
                                               .d_residual = part(d_residual, token, tokens, group, groups),
                                               .d_gate = part(d_gate, token, tokens, group, groups)});
    unpack(d_u, d_currents, group, token);
  }
  void gates_part(int threads, std::int64_t token, std::int64_t tokens) {
    if (kind.stripe)
      gate_backward(device_of(threads), {.d_gate = part(d_gate, token, tokens, 0, kGroups),
                                         .gate = gate(0, token, tokens),
                                         .window = kWindow,
                                         .d_opener = d_opener.view().rows(token, tokens),
                                         .d_bias = d_gate_bias.view(),
                                         .sums = {}});
  }
  void backward(int threads) {
    backward_part(threads, 0, kGroups, 0, kTokens);
    gates_part(threads, 0, kTokens);
  }
  void expect_same(const Circuit& other) const {
    expect_same_bits(pre_norm, other.pre_norm, "pre_norm");
    expect_same_bits(d_currents, other.d_currents, "d_currents");
    expect_same_bits(d_retain, other.d_retain, "d_retain");
    expect_same_bits(d_gain, other.d_gain, "d_gain");
    expect_same_bits(d_residual, other.d_residual, "d_residual");
    expect_same_bits(d_gate, other.d_gate, "d_gate");
    expect_same_bits(d_opener, other.d_opener, "d_opener");
    expect_same_bits(d_gate_bias, other.d_gate_bias, "d_gate_bias");
  }
};

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

Tensor<double> naive(const Circuit<double>& a) {
  Tensor<double> y({kTokens, kOutputs}, 0);
  for (std::int64_t o = 0; o < kOutputs; ++o) {
    double h = 0;
    for (std::int64_t n = 0; n < kTokens; ++n) {
      const auto u = [&](std::int64_t r) { return a.currents[(o / 32 * kTokens + n) * a.columns + r * 32 + o % 32]; };
      if (n % kWindow == 0 || a.first[n] == n % kWindow) h = 0;
      double f = logistic(u(1) + a.retain[o]), i = 1 - f;
      if (a.kind.stripe) {
        const std::int64_t p = o / a.kind.stripe;
        i *= logistic(a.opener[n * a.openers + p] + a.gate_bias[p]);
        f = 1 - i;
      }
      h = f * h + i * u(0);
      double value = h;
      if (a.kind.roles >= 3) value *= u(2) * logistic(u(2));
      if (a.kind.roles == 4) value += u(3);
      if (a.kind.roles == 5) value += u(3) * logistic(u(3)) * u(4);
      y[n * kOutputs + o] = value + (a.kind.residual ? a.residual[n * kOutputs + o] : 0);
    }
  }
  return y;
}

class Microcircuit : public testing::TestWithParam<Kind> {};

TEST_P(Microcircuit, EqualsTheFormula) {
  Circuit<double> a(GetParam());
  a.forward(2);
  expect_close(a.pre_norm, naive(a), 1e-13, "pre_norm");
}

TEST_P(Microcircuit, GradientsEqualDifferences) {
  Circuit<double> a(GetParam());
  a.forward(2);
  a.backward(2);
  const auto loss = [&] {
    a.forward(1);
    return inner(a.out, a.d_out);
  };
  expect_gradient(a.currents, a.d_currents, loss, "currents");
  expect_gradient(a.retain, a.d_retain, loss, "retain");
  expect_gradient(a.gain, a.d_gain, loss, "gain");
  if (a.kind.residual) expect_gradient(a.residual, a.d_residual, loss, "residual");
  if (a.kind.stripe) {
    expect_gradient(a.opener, a.d_opener, loss, "opener");
    expect_gradient(a.gate_bias, a.d_gate_bias, loss, "gate_bias");
  }
}

TEST_P(Microcircuit, ThreadsRangesAndSectionsChangeNoBit) {
  Circuit<float> whole(GetParam()), threads(GetParam()), ranges(GetParam()), sections(GetParam());
  whole.forward(1), threads.forward(3);
  whole.backward(1), threads.backward(3);
  threads.expect_same(whole);
  for (const std::int64_t group : {1, 0}) ranges.forward_part(2, group, 1, 0, kTokens);
  ranges.norm(2);
  for (const std::int64_t group : {1, 0}) ranges.backward_part(2, group, 1, 0, kTokens);
  ranges.gates_part(2, 0, kTokens);
  ranges.expect_same(whole);
  for (const auto& [token, tokens] : {std::pair{std::int64_t{0}, kWindow}, std::pair{kWindow, 2 * kWindow}})
    sections.forward_part(2, 0, kGroups, token, tokens);
  sections.norm(2);
  for (const auto& [token, tokens] : {std::pair{std::int64_t{0}, kWindow}, std::pair{kWindow, 2 * kWindow}}) {
    sections.backward_part(2, 0, kGroups, token, tokens);
    sections.gates_part(2, token, tokens);
  }
  sections.expect_same(whole);
}

TEST_P(Microcircuit, SingleIsCloseToDouble) {
  Circuit<float> single(GetParam());
  Circuit<double> exact(GetParam());
  single.forward(1), exact.forward(1);
  single.backward(1), exact.backward(1);
  expect_close(single.pre_norm, exact.pre_norm, 1e-5, "pre_norm");
  expect_close(single.d_currents, exact.d_currents, 2e-5, "d_currents");
  expect_close(single.d_retain, exact.d_retain, 1e-5, "d_retain");
}

// One token at a time with a state; first is 0 at the start of a document, anything else continues.
TEST_P(Microcircuit, StreamingEqualsTheWindow) {
  Circuit<float> a(GetParam());
  a.forward(1);
  const Tensor<float> expected = a.pre_norm;
  Tensor<float> streamed = Tensor<float>::poisoned({kTokens, kOutputs}), state({1, kOutputs}, 0.0f);
  Tensor<std::int32_t> first({1}, 0);
  for (std::int64_t n = 0; n < kTokens; ++n) {
    Tensor<float> u = Circuit<float>::packed(a.currents, 0, kGroups, n, 1);
    if (a.first[n] == n % kWindow) state = Tensor<float>({1, kOutputs}, 0.0f);  // a new document resets the state
    microcircuit_forward(device_of(2), {.currents = u.view(),
                                        .retain = a.retain.view(),
                                        .first = first.view(),
                                        .window = 1,
                                        .gate = a.gate(0, n, 1),
                                        .residual = Circuit<float>::part(a.residual, n, 1, 0, kGroups),
                                        .state = state.view(),
                                        .pre_norm = streamed.view().rows(n, 1)});
  }
  expect_same_bits(streamed, expected, "pre_norm");
}

INSTANTIATE_TEST_SUITE_P(Kinds, Microcircuit,
                         testing::Values(Kind{2, 0, false}, Kind{3, 0, true}, Kind{4, 0, false}, Kind{5, 0, true}, Kind{2, 1, true},
                                         Kind{3, 2, false}, Kind{4, 4, true}, Kind{5, 4, true}, Kind{5, 64, false}));

TEST(MicrocircuitErrors, NameTheRoles) {
  for (const std::int64_t roles : {1, 6}) {
    Circuit<float> a(Kind{roles, 0, false});
    EXPECT_THROW(a.forward(1), Error);
  }
}

}  // namespace
}  // namespace neurogen
