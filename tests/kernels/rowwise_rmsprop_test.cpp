#include "kernels/rowwise_rmsprop.h"

#include "arena/error.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

TensorView view_of(StepControl& control) { return make_view(&control, DType::u8, {sizeof control}); }

template <typename Real>
class RowwiseRmsprop_ : public testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(RowwiseRmsprop_, Reals);

// Second moments as sums over a row's whole history, without running state.
TYPED_TEST(RowwiseRmsprop_, FollowsTheFormulaAndForgetsEveryRowAtEveryStep) {
  using Real = TypeParam;
  constexpr double kTolerance = sizeof(Real) == 8 ? 1e-12 : 3e-6;
  constexpr std::int64_t V = 61, E = 37, U = 40;
  std::vector<Tensor<Real>> results;
  for (const int threads : {1, 2, 3}) {
    auto p = Tensor<Real>::noise({V, E}, 1, 0.25);
    Tensor<Real> v({V}, 0), norm({2}, Real(0.5));
    Tensor<double> expected({V, E}, 0), second({V}, 0);
    for (std::int64_t i = 0; i < V * E; ++i) expected[i] = static_cast<double>(p[i]);
    std::vector<std::vector<double>> squares(V);  // of each step so far
    std::mt19937 random(4);
    for (int step = 0; step < 6; ++step) {
      auto rows = Tensor<std::int32_t>::poisoned({U});
      auto gradient = Tensor<Real>::poisoned({U, E});
      Tensor<std::int32_t> count({1}, 0);
      StepControl control{.step = step, .learning_rate = 99, .table_learning_rate = 0.25f - 0.04f * static_cast<float>(step)};
      const double rate = static_cast<double>(control.table_learning_rate) * std::sqrt(1 - 0.98);
      for (std::int32_t row = 0; row < V; ++row) {
        squares[static_cast<std::size_t>(row)].push_back(0);
        if (row == V - 1 || random() % 3 != 0 || count[0] == U) continue;  // the last row is never touched
        // Row 0 once has a gradient of zeros, and some are tiny.
        const auto g = Tensor<Real>::noise({E}, static_cast<unsigned>(100 * step + row), row == 0 ? 0 : row % 7 == 0 ? 1e-9 : 0.1);
        rows[count[0]] = row;
        std::copy(g.data.begin(), g.data.end(), gradient.data.begin() + count[0] * E);
        ++count[0];
        for (const Real x : g.data) squares[static_cast<std::size_t>(row)].back() += 0.25 * x * x / E;
        double moment = 1e-24;
        for (int s = 0; s <= step; ++s)
          moment += 0.02 * std::pow(0.98, step - s) * squares[static_cast<std::size_t>(row)][static_cast<std::size_t>(s)];
        for (std::int64_t e = 0; e < E; ++e) expected[row * E + e] -= rate * 0.5 * g[e] / std::sqrt(moment);
      }
      rowwise_rmsprop(device_of(threads),
                      {view_of(control), norm.view(), rows.view(), count.view(), gradient.view(), p.view(), v.view()});
    }
    for (std::int64_t row = 0; row < V; ++row) {
      for (int s = 0; s < 6; ++s)
        second[row] += 0.02 * std::pow(0.98, 5 - s) * squares[static_cast<std::size_t>(row)][static_cast<std::size_t>(s)];
      EXPECT_NEAR(v[row], second[row], 1e-5 * second[row]) << "row " << row;
    }
    expect_close(p, expected, kTolerance, "table");
    expect_close(v, second, kTolerance, "second moments");
    EXPECT_EQ(std::memcmp(&p[(V - 1) * E], &Tensor<Real>::noise({V, E}, 1, 0.25)[(V - 1) * E], E * sizeof(Real)), 0);
    results.push_back(p);
  }
  expect_same_bits(results[0], results[1], "2 threads");
  expect_same_bits(results[0], results[2], "3 threads");
}

TYPED_TEST(RowwiseRmsprop_, ASkippedStepChangesNothing) {
  using Real = TypeParam;
  auto p = Tensor<Real>::noise({5, 8}, 1), d_rows = Tensor<Real>::noise({2, 8}, 2);
  Tensor<Real> v({5}, Real(0.5)), norm({2}, 1);
  Tensor<std::int32_t> rows({2}, 3), count({1}, 1);
  const auto p_before = p, v_before = v;
  StepControl control{.table_learning_rate = 1, .overflow = 2};
  const auto step = [&] {
    rowwise_rmsprop(device_of(1), {view_of(control), norm.view(), rows.view(), count.view(), d_rows.view(), p.view(), v.view()});
  };
  step();
  expect_same_bits(p, p_before, "table");
  expect_same_bits(v, v_before, "second moments");
  control.overflow = 0;
  step();
  EXPECT_NE(p.data, p_before.data);
  Tensor<std::int32_t> wrong({5}, 0);
  EXPECT_THROW(rowwise_rmsprop(device_of(1),
                               {view_of(control), norm.view(), rows.view(), count.view(), d_rows.view(), p.view(), wrong.view()}),
               Error);
}

}  // namespace
}  // namespace neurogen
