#include "kernels/brain/synapses.h"

#include "arena/error.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

constexpr std::int64_t kWindow = 4, kTokens = 20, kRows = 8;  // the last product has fewer rows

struct Kind {
  std::int64_t roles, width, slots;
  std::vector<std::int64_t> sources;  // widths
};

template <typename Real>
struct Net {
  using T = Tensor<Real>;
  Kind kind;
  std::int64_t groups = 3, outputs = groups * kGroup, columns = kind.roles * kGroup, fan_in = kind.slots * kind.width;
  std::int64_t total = std::accumulate(kind.sources.begin(), kind.sources.end(), std::int64_t{0}), blocks = total / kind.width;
  std::vector<T> sources, d_sources;
  Tensor<std::int32_t> wiring{{groups, kind.slots}, 0}, reader_start = Tensor<std::int32_t>::poisoned({blocks + 1}),
                                                        readers = Tensor<std::int32_t>::poisoned({groups * kind.slots});
  Tensor<std::int32_t> first{{kTokens}, 0};
  T weight = T::noise({groups, fan_in, columns}, 2, 0.2), taps = T::noise({2 * kind.roles, outputs}, 5),
    bias = T::noise({kind.roles, outputs}, 3);
  T d_currents = T::noise({groups, kTokens, columns}, 4), currents = T::poisoned({groups, kTokens, columns});
  T d_weight{{groups, fan_in, columns}, 0}, d_taps{taps.shape, 0}, d_bias{{kind.roles, outputs}, 0};
  T scratch = T::poisoned({3, synapses_scratch(fan_in + columns, kRows)});

  explicit Net(Kind k) : kind(std::move(k)) {
    for (const std::int64_t width : kind.sources) {
      sources.push_back(T::noise({kTokens, width}, 10 + static_cast<unsigned>(sources.size())));
      d_sources.push_back(T({kTokens, width}, 0));
    }
    for (std::int64_t g = 0; g < groups; ++g)
      for (std::int64_t s = 0; s < kind.slots; ++s)
        wiring[g * kind.slots + s] = static_cast<std::int32_t>((blocks - 1 + 5 * g + 3 * s) % blocks);
    for (const std::int64_t t : {2, 3}) first[kWindow + t] = 2;  // a document ends inside the second window
    first[2 * kWindow + 3] = 3;                                  // and before the last token of the third
    synapses_readers(device_of(1), {wiring.view(), reader_start.view(), readers.view()});
  }
  Sources all(std::vector<T>& tensors, std::int64_t token, std::int64_t tokens) {
    Sources result;
    for (T& tensor : tensors) result.outputs[static_cast<std::size_t>(result.count++)] = tensor.view().rows(token, tokens);
    return result;
  }
  Taps some(std::int64_t group, std::int64_t count, std::int64_t token, std::int64_t tokens) {
    return {taps.view().columns(group * kGroup, count * kGroup), first.view().rows(token, tokens), kWindow};
  }
  void forward(int threads, std::int64_t group = 0, std::int64_t count = 3) {
    synapses_forward(device_of(threads), {.sources = all(sources, 0, kTokens),
                                          .wiring = wiring.view().rows(group, count),
                                          .weight = weight.view().rows(group, count),
                                          .taps = some(group, count, 0, kTokens),
                                          .bias = bias.view().columns(group * kGroup, count * kGroup),
                                          .currents = currents.view().rows(group, count),
                                          .rows_per_product = kRows,
                                          .scratch = scratch.view()});
  }
  void backward_weights(int threads, std::int64_t group, std::int64_t count, std::int64_t token, std::int64_t tokens) {
    T section({count, tokens, columns}, 0);
    for (std::int64_t g = 0; g < count; ++g)
      std::copy_n(&d_currents[((group + g) * kTokens + token) * columns], tokens * columns, &section[g * tokens * columns]);
    synapses_backward_weights(device_of(threads), {.sources = all(sources, token, tokens),
                                                   .wiring = wiring.view().rows(group, count),
                                                   .weight = weight.view().rows(group, count),
                                                   .taps = some(group, count, token, tokens),
                                                   .d_currents = section.view(),
                                                   .d_weight = d_weight.view().rows(group, count),
                                                   .d_taps = d_taps.view().columns(group * kGroup, count * kGroup),
                                                   .d_bias = d_bias.view().columns(group * kGroup, count * kGroup),
                                                   .rows_per_product = kRows,
                                                   .scratch = scratch.view()});
  }
  void backward_sources(int threads) {
    synapses_backward_sources(device_of(threads), {.d_currents = d_currents.view(),
                                                   .weight = weight.view(),
                                                   .taps = some(0, groups, 0, kTokens),
                                                   .reader_start = reader_start.view(),
                                                   .readers = readers.view(),
                                                   .d_sources = all(d_sources, 0, kTokens),
                                                   .rows_per_product = kRows,
                                                   .scratch = scratch.view()});
  }
  void run(int threads) {
    forward(threads);
    backward_weights(threads, 0, groups, 0, kTokens);
    backward_sources(threads);
  }
};

Tensor<double> naive(const Net<double>& a) {
  Tensor<double> s({a.groups, kTokens, a.columns}, 0), u = s;
  for (std::int64_t g = 0; g < a.groups; ++g)
    for (std::int64_t n = 0; n < kTokens; ++n)
      for (std::int64_t c = 0; c < a.columns; ++c) {
        double sum = 0;
        for (std::int64_t f = 0; f < a.fan_in; ++f) {
          std::int64_t column = a.wiring[g * a.kind.slots + f / a.kind.width] * a.kind.width + f % a.kind.width;
          std::size_t source = 0;
          while (column >= a.kind.sources[source]) column -= a.kind.sources[source++];
          sum += a.sources[source][n * a.kind.sources[source] + column] * a.weight[(g * a.fan_in + f) * a.columns + c];
        }
        const std::int64_t at = (g * kTokens + n) * a.columns + c, output = c / 32 * a.outputs + g * 32 + c % 32;
        s[at] = sum;
        u[at] = a.taps[output] * sum + a.bias[output];
        if (n % kWindow != a.first[n]) u[at] += a.taps[a.kind.roles * a.outputs + output] * s[at - a.columns];
      }
  return u;
}

class Synapses : public testing::TestWithParam<Kind> {};

TEST_P(Synapses, EqualTheFormula) {
  Net<double> a(GetParam());
  a.forward(2);
  expect_close(a.currents, naive(a), 1e-13, "currents");
}

TEST_P(Synapses, GradientsEqualDifferences) {
  Net<double> a(GetParam());
  a.run(2);
  const auto loss = [&] {
    a.forward(1);
    return inner(a.currents, a.d_currents);
  };
  expect_gradient(a.weight, a.d_weight, loss, "weight");
  expect_gradient(a.taps, a.d_taps, loss, "taps");
  expect_gradient(a.bias, a.d_bias, loss, "bias");
  for (std::size_t i = 0; i < a.sources.size(); ++i) expect_gradient(a.sources[i], a.d_sources[i], loss, "source");
}

TEST_P(Synapses, GradientsAreAdded) {
  Net<double> once(GetParam()), twice(GetParam());
  once.run(1);
  twice.run(1);
  twice.run(1);
  for (double& value : once.d_weight.data) value *= 2;
  for (double& value : once.d_sources[0].data) value *= 2;
  expect_close(twice.d_weight, once.d_weight, 1e-13, "d_weight");
  expect_close(twice.d_sources[0], once.d_sources[0], 1e-13, "d_source");
}

TEST_P(Synapses, ThreadsRangesAndSectionsChangeNoBit) {
  Net<float> whole(GetParam()), parts(GetParam());
  whole.run(1);
  for (const int threads : {2, 3}) {
    Net<float> a(GetParam());
    a.run(threads);
    expect_same_bits(a.currents, whole.currents, "currents");
    expect_same_bits(a.d_weight, whole.d_weight, "d_weight");
    expect_same_bits(a.d_taps, whole.d_taps, "d_taps");
    expect_same_bits(a.d_bias, whole.d_bias, "d_bias");
    for (std::size_t i = 0; i < a.d_sources.size(); ++i) expect_same_bits(a.d_sources[i], whole.d_sources[i], "d_source");
  }
  parts.forward(2, 2, 1);
  parts.forward(2, 0, 2);
  for (const std::int64_t group : {2, 0}) {
    parts.backward_weights(2, group, group == 2 ? 1 : 2, 0, 2 * kRows);
    parts.backward_weights(2, group, group == 2 ? 1 : 2, 2 * kRows, kTokens - 2 * kRows);
  }
  expect_same_bits(parts.currents, whole.currents, "currents of ranges");
  expect_same_bits(parts.d_weight, whole.d_weight, "d_weight of ranges and sections");
  expect_same_bits(parts.d_taps, whole.d_taps, "d_taps of ranges and sections");
  expect_same_bits(parts.d_bias, whole.d_bias, "d_bias of ranges and sections");
}

TEST_P(Synapses, SingleTokensContinueFromTheOneBefore) {
  Net<double> a(GetParam());
  a.forward(1);
  Tensor<double> before({a.groups, a.columns}, 0), token = Tensor<double>::poisoned({a.groups, 1, a.columns});
  Tensor<std::int32_t> start({1}, 0);
  for (std::int64_t n = 0; n < kTokens; ++n) {
    if (n % kWindow == a.first[n]) std::fill(before.data.begin(), before.data.end(), 0.0);  // as a stream starts over
    synapses_forward(device_of(2), {.sources = a.all(a.sources, n, 1),
                                    .wiring = a.wiring.view(),
                                    .weight = a.weight.view(),
                                    .taps = {a.taps.view(), start.view(), 1},
                                    .bias = a.bias.view(),
                                    .currents = token.view(),
                                    .rows_per_product = 1,
                                    .scratch = a.scratch.view(),
                                    .before = before.view()});
    Tensor<double> batched = token;
    for (std::int64_t g = 0; g < a.groups; ++g)
      std::copy_n(&a.currents[(g * kTokens + n) * a.columns], a.columns, &batched[g * a.columns]);
    expect_close(token, batched, 1e-13, "currents of a token");
  }
}

TEST_P(Synapses, SingleIsCloseToDouble) {
  Net<float> single(GetParam());
  Net<double> exact(GetParam());
  single.run(1), exact.run(1);
  expect_close(single.currents, exact.currents, 1e-5, "currents");
  expect_close(single.d_weight, exact.d_weight, 1e-5, "d_weight");
  expect_close(single.d_taps, exact.d_taps, 1e-5, "d_taps");
  expect_close(single.d_sources[0], exact.d_sources[0], 1e-5, "d_source");
}

INSTANTIATE_TEST_SUITE_P(Kinds, Synapses,
                         testing::Values(Kind{2, 32, 2, {96}}, Kind{3, 16, 3, {64, 32}}, Kind{4, 32, 3, {32, 64, 32}},
                                         Kind{5, 32, 4, {64, 96, 32, 64}}, Kind{5, 16, 2, {32, 32, 32, 32, 64}}));

TEST(SynapsesErrors, NameBadWiringAndWidth) {
  Net<float> a(Kind{2, 32, 2, {96}});
  a.wiring[3] = 3;
  EXPECT_THROW(a.forward(1), Error);
  EXPECT_THROW(synapses_readers(device_of(1), {a.wiring.view(), a.reader_start.view(), a.readers.view()}), Error);
  Net<float> narrow(Kind{2, 16, 2, {96}});
  narrow.kind.slots = 4;
  narrow.wiring = Tensor<std::int32_t>({3, 4}, 0);
  EXPECT_THROW(narrow.forward(1), Error) << "source blocks of 8";
}

}  // namespace
}  // namespace neurogen
