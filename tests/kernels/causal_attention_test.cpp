#include "kernels/causal_attention.h"

#include "arena/error.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

struct Sizes {
  std::int64_t batch, window, queries, keys, width;
  std::int64_t rows() const { return batch * window; }
};
void PrintTo(const Sizes& s, std::ostream* out) { *out << s.window << "_" << s.queries << "_" << s.keys << "_" << s.width; }

// q, k and v side by side in one tensor, as a model has them; one document ends inside the second window.
template <typename Real>
struct Attention {
  using T = Tensor<Real>;
  Sizes s;
  std::int64_t q_width = s.queries * s.width, k_width = s.keys * s.width;
  T qkv = T::noise({s.rows(), q_width + 2 * k_width}, 1), d_out = T::noise({s.rows(), q_width}, 2);
  T out = T::poisoned({s.rows(), q_width}), sums = T::poisoned({s.queries, s.rows()}), dot = sums;
  T d_qkv = T::poisoned({s.rows(), q_width + 2 * k_width});
  Tensor<std::int32_t> first{{s.rows()}, 0};

  explicit Attention(Sizes sizes) : s(sizes) {
    for (std::int64_t t = s.window / 3; t < s.window; ++t) first[s.rows() - s.window + t] = static_cast<std::int32_t>(s.window / 3);
  }
  TensorView q(T& all) { return all.view().columns(0, q_width); }
  TensorView k(T& all) { return all.view().columns(q_width, k_width); }
  TensorView v(T& all) { return all.view().columns(q_width + k_width, k_width); }
  void forward(int threads) {
    T scratch = T::poisoned({threads, causal_attention_scratch(s.window)});
    causal_attention_forward(
        device_of(threads),
        {{s.queries, s.keys}, q(qkv), k(qkv), v(qkv), first.view(), s.window, out.view(), sums.view(), scratch.view()});
  }
  void backward(int threads) {
    T scratch = T::poisoned({threads, causal_attention_scratch(s.window)});
    causal_attention_backward(device_of(threads), {{s.queries, s.keys},
                                                   q(qkv),
                                                   k(qkv),
                                                   v(qkv),
                                                   first.view(),
                                                   s.window,
                                                   out.view(),
                                                   sums.view(),
                                                   d_out.view(),
                                                   q(d_qkv),
                                                   k(d_qkv),
                                                   v(d_qkv),
                                                   dot.view(),
                                                   scratch.view()});
  }
};

// out of one head and token, in plain loops.
std::vector<double> formula(const Attention<double>& a, std::int64_t n, std::int64_t head) {
  const Sizes& s = a.s;
  const std::int64_t columns = a.q_width + 2 * a.k_width, key_head = head * s.keys / s.queries, t = n % s.window;
  const double* const x = a.qkv.data.data();
  std::vector<double> weights, out(static_cast<std::size_t>(s.width));
  double total = 0;
  for (std::int64_t j = a.first[n]; j <= t; ++j) {
    double score = 0;
    for (std::int64_t i = 0; i < s.width; ++i)
      score += x[n * columns + head * s.width + i] * x[(n - t + j) * columns + a.q_width + key_head * s.width + i];
    weights.push_back(std::exp(score / std::sqrt(static_cast<double>(s.width))));
    total += weights.back();
  }
  for (std::size_t j = 0; j < weights.size(); ++j)
    for (std::int64_t i = 0; i < s.width; ++i)
      out[static_cast<std::size_t>(i)] +=
          weights[j] / total *
          x[(n - t + a.first[n] + static_cast<std::int64_t>(j)) * columns + a.q_width + a.k_width + key_head * s.width + i];
  return out;
}

class CausalAttention : public testing::TestWithParam<Sizes> {};

TEST_P(CausalAttention, EqualsTheFormulaAndItsGradients) {
  Attention<double> a(GetParam());
  a.forward(2);
  for (std::int64_t n = 0; n < a.s.rows(); ++n) {
    for (std::int64_t head = 0; head < a.s.queries; ++head) {
      const std::vector<double> expected = formula(a, n, head);
      for (std::int64_t i = 0; i < a.s.width; ++i)
        EXPECT_NEAR(a.out[n * a.q_width + head * a.s.width + i], expected[static_cast<std::size_t>(i)], 1e-12);
    }
  }
  a.backward(2);
  expect_gradient(
      a.qkv, a.d_qkv,
      [&] {
        a.forward(1);
        return inner(a.out, a.d_out);
      },
      "q, k and v");
}

TEST_P(CausalAttention, ThreadsAndPrecisionChangeNothing) {
  Attention<float> one(GetParam()), three(GetParam());
  Attention<double> exact(GetParam());
  one.forward(1), three.forward(3), exact.forward(1);
  one.backward(1), three.backward(3), exact.backward(1);
  expect_same_bits(one.out, three.out, "out");
  expect_same_bits(one.d_qkv, three.d_qkv, "d_qkv");
  expect_close(one.out, exact.out, 1e-4, "out");
  expect_close(one.d_qkv, exact.d_qkv, 1e-3, "d_qkv");
}

TEST_P(CausalAttention, OneTokenAtATimeSeesTheSame) {
  Attention<double> a(GetParam());
  const Sizes& s = a.s;
  a.forward(1);
  const std::int64_t ring = s.window + 3;
  Tensor<double> keys = Tensor<double>::poisoned({1, ring, a.k_width}), values = keys,
                 out = Tensor<double>::poisoned({1, a.q_width});
  Tensor<std::int64_t> position({1}, 0), first({1}, 0);
  for (std::int64_t n = s.rows() - s.window; n < s.rows(); ++n) {
    const std::int64_t t = n % s.window;
    position[0] = 1000 + t, first[0] = 1000 + a.first[n];
    const auto row = [&](const TensorView& x) { return x.rows(n, 1); };
    causal_attention_step(device_of(2), {{s.queries, s.keys},
                                         row(a.q(a.qkv)),
                                         row(a.k(a.qkv)),
                                         row(a.v(a.qkv)),
                                         keys.view(),
                                         values.view(),
                                         position.view(),
                                         first.view(),
                                         out.view(),
                                         {}});
    for (std::int64_t i = 0; i < a.q_width; ++i) EXPECT_NEAR(out[i], a.out[n * a.q_width + i], 1e-12);
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, CausalAttention,
                         testing::Values(Sizes{2, 9, 2, 2, 16}, Sizes{2, 70, 4, 2, 8}, Sizes{3, 65, 3, 1, 32}),
                         testing::PrintToStringParamName());

TEST(CausalAttentionOperands, ThatDoNotFitAreRefused) {
  Attention<float> a({1, 8, 3, 1, 8});
  a.s.keys = 2;
  EXPECT_THROW(a.forward(1), Error);
}

}  // namespace
}  // namespace neurogen
