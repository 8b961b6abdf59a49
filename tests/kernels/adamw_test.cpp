#include "kernels/adamw.h"

#include "arena/error.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

template <typename Real>
constexpr double kTolerance = sizeof(Real) == 8 ? 1e-12 : 2e-6;

// One number by the definition: moments as sums over its whole history, without running state.
double reference(double p, const std::vector<double>& gradients, const std::vector<double>& rates, double decay) {
  for (std::size_t n = 1; n <= gradients.size(); ++n) {
    double m = 0, v = 0;
    for (std::size_t i = 1; i <= n; ++i) {
      m += 0.1 * std::pow(0.9, static_cast<double>(n - i)) * gradients[i - 1];
      v += 0.02 * std::pow(0.98, static_cast<double>(n - i)) * gradients[i - 1] * gradients[i - 1];
    }
    m /= 1 - std::pow(0.9, static_cast<double>(n));
    v /= 1 - std::pow(0.98, static_cast<double>(n));
    p = p - rates[n - 1] * (decay * p + m / (std::sqrt(v) + 1e-8));
  }
  return p;
}

TensorView view_of(StepControl& control) { return make_view(&control, DType::u8, {sizeof control}); }

template <typename Real>
class AdamW_ : public testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(AdamW_, Reals);

TYPED_TEST(AdamW_, FollowsTheFormulaForSeveralSteps) {
  using Real = TypeParam;
  for (const Shape& shape : {Shape{1}, Shape{3, 7, 5}, Shape{131, 301}}) {
    std::vector<Tensor<Real>> results;
    for (const int threads : {1, 2, 3}) {
      auto p = Tensor<Real>::noise(shape, 1, 0.5);
      Tensor<Real> m(shape, 0), v(shape, 0), norm({2}, Real(0.25));
      const Tensor<Real> start = p;
      std::vector<Tensor<Real>> gradients;
      std::vector<double> rates;
      for (int step = 0; step < 4; ++step) {
        gradients.push_back(Tensor<Real>::noise(shape, 10 + step, step == 2 ? 1e-6 : 0.1));
        StepControl control{.step = step, .learning_rate = 0.01f / static_cast<float>(step + 1), .table_learning_rate = 99};
        rates.push_back(control.learning_rate);
        adamw(device_of(threads), {view_of(control), norm.view(), {{gradients.back().view(), p.view(), m.view(), v.view(), 0.05}}});
      }
      Tensor<double> expected(shape, 0);
      for (std::int64_t i = 0; i < static_cast<std::int64_t>(p.data.size()); ++i) {
        std::vector<double> history;
        for (const auto& g : gradients) history.push_back(0.25 * g[i]);
        expected[i] = reference(start[i], history, rates, 0.05);
      }
      expect_close(p, expected, kTolerance<Real>, "parameter");
      results.push_back(p);
    }
    expect_same_bits(results[0], results[1], "2 threads");
    expect_same_bits(results[0], results[2], "3 threads");
  }
}

TYPED_TEST(AdamW_, RefusesMixedTypesAndStridedRows) {
  using Real = TypeParam;
  auto x = Tensor<Real>::noise({4, 6}, 1);
  Tensor<std::int32_t> wrong({4, 6}, 0);
  Tensor<Real> norm({2}, 1);
  StepControl control;
  EXPECT_THROW(adamw(device_of(1), {view_of(control), norm.view(), {{wrong.view(), x.view(), x.view(), x.view()}}}), Error);
  const TensorView strided = x.view().columns(0, 3);
  EXPECT_THROW(adamw(device_of(1), {view_of(control), norm.view(), {{strided, strided, strided, strided}}}), Error);
}

}  // namespace
}  // namespace neurogen
