#include "kernels/synapses.h"

#include "arena/error.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 22, kRows = 8;  // the last product has fewer rows

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
  T weight = T::noise({groups, fan_in, columns}, 2, 0.2), bias = T::noise({kind.roles, outputs}, 3);
  T d_currents = T::noise({groups, kTokens, columns}, 4), currents = T::poisoned({groups, kTokens, columns});
  T d_weight{{groups, fan_in, columns}, 0}, d_bias{{kind.roles, outputs}, 0};
  T scratch = T::poisoned({3, synapses_scratch(fan_in, kRows)});

  explicit Net(Kind k) : kind(std::move(k)) {
    for (const std::int64_t width : kind.sources) {
      sources.push_back(T::noise({kTokens, width}, 10 + static_cast<unsigned>(sources.size())));
      d_sources.push_back(T({kTokens, width}, 0));
    }
    for (std::int64_t g = 0; g < groups; ++g)
      for (std::int64_t s = 0; s < kind.slots; ++s)
        wiring[g * kind.slots + s] = static_cast<std::int32_t>((blocks - 1 + 5 * g + 3 * s) % blocks);
    synapses_readers(device_of(1), {wiring.view(), reader_start.view(), readers.view()});
  }
  Sources all(std::vector<T>& tensors, std::int64_t token, std::int64_t tokens) {
    Sources result;
    for (T& tensor : tensors) result.outputs[static_cast<std::size_t>(result.count++)] = tensor.view().rows(token, tokens);
    return result;
  }
  void forward(int threads, std::int64_t group = 0, std::int64_t count = 3) {
    synapses_forward(device_of(threads), {.sources = all(sources, 0, kTokens),
                                          .wiring = wiring.view().rows(group, count),
                                          .weight = weight.view().rows(group, count),
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
                                                   .d_currents = section.view(),
                                                   .d_weight = d_weight.view().rows(group, count),
                                                   .d_bias = d_bias.view().columns(group * kGroup, count * kGroup),
                                                   .rows_per_product = kRows,
                                                   .scratch = scratch.view()});
  }
  void backward_sources(int threads) {
    synapses_backward_sources(device_of(threads), {.d_currents = d_currents.view(),
                                                   .weight = weight.view(),
                                                   .reader_start = reader_start.view(),
                                                   .readers = readers.view(),
                                                   .d_sources = all(d_sources, 0, kTokens),
                                                   .rows_per_product = kRows});
  }
  void run(int threads) {
    forward(threads);
    backward_weights(threads, 0, groups, 0, kTokens);
    backward_sources(threads);
  }
};

Tensor<double> naive(const Net<double>& a) {
  Tensor<double> u({a.groups, kTokens, a.columns}, 0);
  for (std::int64_t g = 0; g < a.groups; ++g)
    for (std::int64_t n = 0; n < kTokens; ++n)
      for (std::int64_t c = 0; c < a.columns; ++c) {
        double sum = a.bias[c / 32 * a.outputs + g * 32 + c % 32];
        for (std::int64_t f = 0; f < a.fan_in; ++f) {
          std::int64_t column = a.wiring[g * a.kind.slots + f / a.kind.width] * a.kind.width + f % a.kind.width;
          std::size_t source = 0;
          while (column >= a.kind.sources[source]) column -= a.kind.sources[source++];
          sum += a.sources[source][n * a.kind.sources[source] + column] * a.weight[(g * a.fan_in + f) * a.columns + c];
        }
        u[(g * kTokens + n) * a.columns + c] = sum;
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
  expect_same_bits(parts.d_bias, whole.d_bias, "d_bias of ranges and sections");
}

TEST_P(Synapses, SingleIsCloseToDouble) {
  Net<float> single(GetParam());
  Net<double> exact(GetParam());
  single.run(1), exact.run(1);
  expect_close(single.currents, exact.currents, 1e-5, "currents");
  expect_close(single.d_weight, exact.d_weight, 1e-5, "d_weight");
  expect_close(single.d_sources[0], exact.d_sources[0], 1e-5, "d_source");
}

INSTANTIATE_TEST_SUITE_P(Kinds, Synapses,
                         testing::Values(Kind{2, 32, 2, {96}}, Kind{3, 16, 3, {64, 32}}, Kind{4, 32, 3, {32, 64, 32}},
                                         Kind{5, 32, 4, {64, 96, 32, 64}}, Kind{5, 16, 2, {32, 32, 32, 32}}));

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
