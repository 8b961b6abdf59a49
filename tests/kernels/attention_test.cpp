#include "kernels/brain/attention.h"

#include "arena/error.h"
#include "kernels/brain/synapses.h"
#include "kernels/rms_norm.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

constexpr std::int64_t kHeads = 2, kGroups = 2 * kHeads, kOutputs = kHeads * kHead, kWindows = 2;

// Heads with the norm after them, and all outputs of the backward pass.
template <typename Real>
struct Heads {
  using T = Tensor<Real>;
  std::int64_t roles, window, tokens = window * kWindows, columns = roles * kGroup;
  T currents = T::noise({kGroups, tokens, columns}, 1), gain = T::noise({kOutputs}, 2, 0.3, 1),
    d_out = T::noise({tokens, kOutputs}, 3);
  Tensor<std::int32_t> first{{tokens}, 0};
  T pre_norm = T::poisoned({tokens, kOutputs}), out = pre_norm, inverse_rms = T::poisoned({tokens}), dot = inverse_rms;
  T d_currents = T::poisoned({kGroups, tokens, columns}), d_gain{{kOutputs}, 0};
  T scratch = T::poisoned({3, attention_scratch(window)});

  // With `documents` the second window holds two documents.
  Heads(std::int64_t r, std::int64_t w, bool documents) : roles(r), window(w) {
    for (std::int64_t t = window / 3; documents && t < window; ++t) first[window + t] = static_cast<std::int32_t>(window / 3);
  }
  T packed(std::int64_t group, std::int64_t groups, std::int64_t token, std::int64_t count) const {
    T y({groups, count, columns}, 0);
    for (std::int64_t g = 0; g < groups; ++g)
      std::copy_n(&currents[((group + g) * tokens + token) * columns], count * columns, &y[g * count * columns]);
    return y;
  }
  void forward_part(int threads, std::int64_t head, std::int64_t heads, std::int64_t token, std::int64_t count) {
    T u = packed(2 * head, 2 * heads, token, count);
    attention_forward(device_of(threads), {.currents = u.view(),
                                           .first = first.view().rows(token, count),
                                           .window = window,
                                           .pre_norm = pre_norm.view().rows(token, count).columns(head * kHead, heads * kHead),
                                           .scratch = scratch.view()});
  }
  void norm(int threads) {
    rms_norm_forward(device_of(threads),
                     {.x = pre_norm.view(), .gain = gain.view(), .out = out.view(), .inverse_rms = inverse_rms.view()});
    rms_norm_backward_dot(device_of(threads), {.d_out = d_out.view(), .out = out.view(), .dot = dot.view()});
  }
  void forward(int threads) {
    forward_part(threads, 0, kHeads, 0, tokens);
    norm(threads);
  }
  void backward_part(int threads, std::int64_t head, std::int64_t heads, std::int64_t token, std::int64_t count) {
    T u = packed(2 * head, 2 * heads, token, count), d_u = T::poisoned(u.shape);
    attention_backward(device_of(threads), {.currents = u.view(),
                                            .first = first.view().rows(token, count),
                                            .window = window,
                                            .d_out = d_out.view().rows(token, count).columns(head * kHead, heads * kHead),
                                            .inverse_rms = inverse_rms.view().rows(token, count),
                                            .dot = dot.view().rows(token, count),
                                            .gain = gain.view().rows(head * kHead, heads * kHead),
                                            .d_currents = d_u.view(),
                                            .d_gain = d_gain.view().rows(head * kHead, heads * kHead),
                                            .scratch = scratch.view(),
                                            .d_mixed = {},
                                            .notes = {}});
    for (std::int64_t g = 0; g < 2 * heads; ++g)
      std::copy_n(&d_u[g * count * columns], count * columns, &d_currents[((2 * head + g) * tokens + token) * columns]);
  }
  void backward(int threads) { backward_part(threads, 0, kHeads, 0, tokens); }
  void expect_same(const Heads& other) const {
    expect_same_bits(pre_norm, other.pre_norm, "pre_norm");
    expect_same_bits(d_currents, other.d_currents, "d_currents");
    expect_same_bits(d_gain, other.d_gain, "d_gain");
  }
};

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

// A plain implementation of the formula. Token n of a window sees [oldest(n), n].
template <typename Oldest>
Tensor<double> naive(const Heads<double>& a, Oldest&& oldest) {
  Tensor<double> y({a.tokens, kOutputs}, 0);
  const auto u = [&](std::int64_t n, std::int64_t role, std::int64_t o) {
    return a.currents[(o / 32 * a.tokens + n) * a.columns + role * 32 + o % 32];
  };
  const auto turned = [&](std::int64_t n, std::int64_t role, std::int64_t head) {
    std::vector<double> x(64), z(64);
    double squares = 0;
    for (std::int64_t j = 0; j < 64; ++j) squares += std::pow(x[static_cast<std::size_t>(j)] = u(n, role, head * 64 + j), 2);
    for (std::size_t i = 0; i < 32; ++i) {
      const double theta = static_cast<double>(n % a.window) * std::pow(10000, -2.0 * static_cast<double>(i) / 64);
      const double rms = std::sqrt(squares / 64 + 1e-5), p = x[2 * i] / rms, q = x[2 * i + 1] / rms;
      z[2 * i] = p * std::cos(theta) - q * std::sin(theta);
      z[2 * i + 1] = p * std::sin(theta) + q * std::cos(theta);
    }
    return z;
  };
  for (std::int64_t head = 0; head < kHeads; ++head)
    for (std::int64_t n = 0; n < a.tokens; ++n) {
      std::vector<double> mixed(64, 0.0);
      double sum = 0;
      const auto q = turned(n, 0, head);
      for (std::int64_t m = oldest(n); m <= n; ++m) {
        const auto k = turned(m, 1, head);
        const double weight = std::exp(std::inner_product(q.begin(), q.end(), k.begin(), 0.0) / 8);
        sum += weight;
        for (std::int64_t j = 0; j < 64; ++j) {
          const double strength = a.roles == 5 ? 2 * logistic(u(m, 4, head * 64 + j)) : 1;
          mixed[static_cast<std::size_t>(j)] += weight * strength * u(m, 2, head * 64 + j);
        }
      }
      for (std::int64_t j = 0; j < 64; ++j)
        y[n * kOutputs + head * 64 + j] = mixed[static_cast<std::size_t>(j)] / sum * logistic(u(n, 3, head * 64 + j));
    }
  return y;
}

TEST(Attention, EqualsTheFormula) {
  for (const std::int64_t roles : {4, 5})
    for (const std::int64_t window : {1, 7, 64, 150})
      for (const bool documents : {false, true}) {
        Heads<double> a(roles, window, documents);
        a.forward(2);
        const auto oldest = [&](std::int64_t n) { return n / window * window + a.first[n]; };
        expect_close(a.pre_norm, naive(a, oldest), 1e-12, "pre_norm");
      }
}

TEST(Attention, GradientsEqualDifferences) {
  for (const std::int64_t roles : {4, 5})
    for (const std::int64_t window : {9, 70}) {
      Heads<double> a(roles, window, true);
      a.forward(2);
      a.backward(2);
      const auto loss = [&] {
        a.forward(2);
        return inner(a.out, a.d_out);
      };
      expect_gradient(a.currents, a.d_currents, loss, "currents");
      expect_gradient(a.gain, a.d_gain, loss, "gain");
    }
}

TEST(Attention, ThreadsRangesAndSectionsChangeNoBit) {
  Heads<float> whole(5, 70, true), ranges(5, 70, true), sections(5, 70, true);
  whole.forward(1);
  whole.backward(1);
  for (const int threads : {2, 3}) {
    Heads<float> a(5, 70, true);
    a.forward(threads);
    a.backward(threads);
    a.expect_same(whole);
  }
  for (const std::int64_t head : {1, 0}) ranges.forward_part(2, head, 1, 0, whole.tokens);
  ranges.norm(2);
  for (const std::int64_t head : {1, 0}) ranges.backward_part(2, head, 1, 0, whole.tokens);
  ranges.expect_same(whole);
  for (const std::int64_t token : {0, 70}) sections.forward_part(2, 0, kHeads, token, 70);
  sections.norm(2);
  for (const std::int64_t token : {0, 70}) sections.backward_part(2, 0, kHeads, token, 70);
  sections.expect_same(whole);
}

TEST(Attention, SingleIsCloseToDouble) {
  Heads<float> single(5, 130, true);
  Heads<double> exact(5, 130, true);
  single.forward(1), exact.forward(1);
  single.backward(1), exact.backward(1);
  expect_close(single.pre_norm, exact.pre_norm, 2e-5, "pre_norm");
  expect_close(single.d_currents, exact.d_currents, 5e-5, "d_currents");
}

// Both windows of `a` as two streams.
Tensor<double> streamed(const Heads<double>& a, std::int64_t ring, std::int64_t start) {
  Tensor<double> keys = Tensor<double>::poisoned({kWindows, ring, kOutputs}), values = keys,
                 y = Tensor<double>::poisoned(a.pre_norm.shape);
  for (std::int64_t t = 0; t < a.window; ++t) {
    Tensor<double> u({kGroups, kWindows, a.columns}, 0), out = Tensor<double>::poisoned({kWindows, kOutputs});
    for (std::int64_t g = 0; g < kGroups; ++g)
      for (std::int64_t b = 0; b < kWindows; ++b)
        std::copy_n(&a.currents[(g * a.tokens + b * a.window + t) * a.columns], a.columns, &u[(g * kWindows + b) * a.columns]);
    Tensor<std::int64_t> position({1}, start + t), first({1}, start);
    attention_step(device_of(2), {u.view(), keys.view(), values.view(), position.view(), first.view(), out.view()});
    for (std::int64_t b = 0; b < kWindows; ++b) std::copy_n(&out[b * kOutputs], kOutputs, &y[(b * a.window + t) * kOutputs]);
  }
  return y;
}

TEST(AttentionStep, EqualsTheWindowAndSlidesOverARing) {
  for (const std::int64_t roles : {4, 5}) {
    Heads<double> a(roles, 40, false);
    a.forward(2);
    expect_close(streamed(a, 40, 0), a.pre_norm, 1e-12, "within the ring");
    const auto last = [&](std::int64_t n) { return std::max(n / a.window * a.window, n - 12); };
    expect_close(streamed(a, 13, 0), naive(a, last), 1e-12, "behind the ring");
    // Only relative positions matter, and documents hide earlier tokens: far into a stream nothing changes.
    expect_close(streamed(a, 40, 100'000'003), a.pre_norm, 1e-6, "at a large position");
  }
}

TEST(AttentionErrors, NameWhatDoesNotFit) {
  Heads<float> roles(3, 8, false), window(4, 8, false), scratch(4, 8, false);
  window.window = 5;
  scratch.scratch = Tensor<float>({3, 64}, 0);
  EXPECT_THROW(roles.forward(1), Error);
  EXPECT_THROW(window.forward(1), Error);
  EXPECT_THROW(scratch.forward(1), Error);
  EXPECT_THROW(roles.forward_part(1, 0, 1, 0, 3), Error);
}

}  // namespace
}  // namespace neurogen
