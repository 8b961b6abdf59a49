#include "kernels/adafactor.h"

#include "arena/error.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

template <typename Real>
constexpr double kTolerance = sizeof(Real) == 8 ? 1e-12 : 3e-6;

// A plain implementation of the formulas on whole float64 matrices, entry by entry.
struct Reference {
  std::int64_t vocabulary, outputs, tile;
  std::vector<std::vector<double>> weight;
  std::vector<double> row, column;
  double largest_rms = 0;

  void step(const std::vector<std::vector<double>>& g, double rate, int n) {
    const auto V = static_cast<std::size_t>(vocabulary), O = static_cast<std::size_t>(outputs);
    const auto q = [&](std::size_t i, std::size_t j) { return g[i][j] * g[i][j] + 1e-30; };
    for (std::size_t i = 0; i < V; ++i) {
      double mean = 0;
      for (std::size_t j = 0; j < O; ++j) mean += q(i, j) / static_cast<double>(O);
      row[i] = 0.99 * row[i] + 0.01 * mean;
    }
    for (std::size_t from = 0; from < V; from += static_cast<std::size_t>(tile)) {
      const std::size_t to = std::min(V, from + static_cast<std::size_t>(tile));
      std::vector<double> estimate(O, 0);
      double mean = 0, squares = 0;
      for (std::size_t j = 0; j < O; ++j) {
        for (std::size_t i = from; i < to; ++i) estimate[j] += q(i, j) / static_cast<double>(to - from);
        if (n > 1) estimate[j] = column[j] / (1 - std::pow(0.99, n - 1));
        mean += estimate[j] / static_cast<double>(O);
      }
      const auto u = [&](std::size_t i, std::size_t j) {
        return g[i][j] / std::sqrt(row[i] / (1 - std::pow(0.99, n)) / mean * estimate[j]);
      };
      for (std::size_t i = from; i < to; ++i)
        for (std::size_t j = 0; j < O; ++j) squares += u(i, j) * u(i, j);
      const double rms = std::sqrt(squares / static_cast<double>((to - from) * O));
      largest_rms = std::max(largest_rms, rms);
      for (std::size_t i = from; i < to; ++i)
        for (std::size_t j = 0; j < O; ++j) weight[i][j] -= rate * u(i, j) / std::max(1.0, rms);
    }
    for (std::size_t j = 0; j < O; ++j) {
      double mean = 0;
      for (std::size_t i = 0; i < V; ++i) mean += q(i, j) / static_cast<double>(V);
      column[j] = 0.99 * column[j] + 0.01 * mean;
    }
  }
};

template <typename Real>
class Adafactor : public testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(Adafactor, Reals);

template <typename Real>
void expect_formula(std::int64_t V, std::int64_t O, std::int64_t tile) {
  SCOPED_TRACE(testing::Message() << V << " x " << O << " in tiles of " << tile);
  std::vector<Tensor<Real>> results;
  for (const int threads : {1, 2, 3}) {
    CpuDevice& device = device_of(threads);
    auto weight = Tensor<Real>::noise({V, O}, 1, 0.02);
    Tensor<Real> row({V}, 0), column({O}, 0);
    Reference reference{V,
                        O,
                        tile,
                        {},
                        std::vector<double>(row.data.begin(), row.data.end()),
                        std::vector<double>(column.data.begin(), column.data.end())};
    for (std::int64_t i = 0; i < V; ++i) reference.weight.emplace_back(&weight[i * O], &weight[i * O] + O);
    for (int n = 1; n <= 4; ++n) {
      auto gradient = Tensor<Real>::noise({V, O}, 10 + n, n == 3 ? 10 : 1e-4);  // the third is clipped
      for (std::int64_t j = 0; j < O; ++j) gradient[V / 2 * O + j] = 0;         // a token that never occurs
      std::vector<std::vector<double>> wide;
      for (std::int64_t i = 0; i < V; ++i) wide.emplace_back(&gradient[i * O], &gradient[i * O] + O);
      StepControl control{.step = n - 1, .learning_rate = 99, .decoder_learning_rate = 1e-3f};
      Tensor<Real> column_sum({O}, 0);
      for (std::int64_t from = 0; from < V; from += tile) {
        const std::int64_t rows = std::min(tile, V - from);
        auto scratch = Tensor<double>::poisoned({adafactor_scratch(rows, O)});
        adafactor_tiles(device, {make_view(&control, DType::u8, {sizeof control}), gradient.view().rows(from, rows),
                                 weight.view().rows(from, rows), row.view().rows(from, rows), column.view(), column_sum.view(),
                                 scratch.view(), rows});
      }
      adafactor_finish(device, {column_sum.view(), V, column.view(), make_view(&control, DType::u8, {sizeof control})});
      reference.step(wide, 1e-3f, n);
    }
    EXPECT_GT(reference.largest_rms, 1.5);  // the clip took effect
    Tensor<double> expected({V, O}, 0), expected_row({V}, 0), expected_column({O}, 0);
    for (std::int64_t i = 0; i < V; ++i)
      std::copy(reference.weight[static_cast<std::size_t>(i)].begin(), reference.weight[static_cast<std::size_t>(i)].end(),
                &expected[i * O]);
    expected_row.data = reference.row;
    expected_column.data = reference.column;
    expect_close(weight, expected, kTolerance<Real>, "weight");
    expect_close(row, expected_row, kTolerance<Real>, "row");
    expect_close(column, expected_column, kTolerance<Real>, "column");
    results.push_back(weight);
  }
  expect_same_bits(results[0], results[1], "2 threads");
  expect_same_bits(results[0], results[2], "3 threads");
}

TYPED_TEST(Adafactor, FollowsTheFormulaInTiles) {
  expect_formula<TypeParam>(5, 3, 5);
  expect_formula<TypeParam>(150, 33, 100);  // the last tile is shorter
  expect_formula<TypeParam>(193, 1100, 64);
}

// A tile may be a slice of something wider.
TYPED_TEST(Adafactor, StridedRowsGiveTheSame) {
  using Real = TypeParam;
  auto wide_gradient = Tensor<Real>::noise({9, 50}, 1), wide_weight = Tensor<Real>::noise({9, 50}, 2);
  Tensor<Real> gradient({9, 20}, 0), weight({9, 20}, 0);
  for (std::int64_t i = 0; i < 9; ++i) {
    std::copy_n(&wide_gradient[i * 50 + 7], 20, &gradient[i * 20]);
    std::copy_n(&wide_weight[i * 50 + 7], 20, &weight[i * 20]);
  }
  const auto run = [](const TensorView& g, const TensorView& w) {
    StepControl control{.decoder_learning_rate = 1e-2f};
    Tensor<Real> row({9}, 0), column({20}, 0), sum({20}, 0);
    auto scratch = Tensor<double>::poisoned({adafactor_scratch(9, 20)});
    adafactor_tiles(device_of(2), {make_view(&control, DType::u8, {sizeof control}), g, w, row.view(), column.view(), sum.view(),
                                   scratch.view(), g[0]});
  };
  const Tensor<Real> untouched = wide_weight;
  run(wide_gradient.view().columns(7, 20), wide_weight.view().columns(7, 20));
  run(gradient.view(), weight.view());
  for (std::int64_t i = 0; i < 9; ++i) {
    for (std::int64_t j = 0; j < 50; ++j) {
      EXPECT_EQ(wide_weight[i * 50 + j], j >= 7 && j < 27 ? weight[i * 20 + j - 7] : untouched[i * 50 + j]) << i << " " << j;
    }
  }
}

TYPED_TEST(Adafactor, RefusesTooLittleScratch) {
  auto x = Tensor<TypeParam>::noise({4, 6}, 1), row = Tensor<TypeParam>::noise({4}, 1), column = Tensor<TypeParam>::noise({6}, 1);
  Tensor<double> scratch({adafactor_scratch(4, 6) - 1}, 0);
  StepControl control;
  EXPECT_THROW(adafactor_tiles(device_of(1), {make_view(&control, DType::u8, {sizeof control}), x.view(), x.view(), row.view(),
                                              column.view(), column.view(), scratch.view(), x.view()[0]}),
               Error);
}

}  // namespace
}  // namespace neurogen
