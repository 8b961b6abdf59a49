#include "kernels/matrix_muon.h"

#include "arena/error.h"
#include "tests/kernels/finite_difference.h"
#include "tests/kernels/orthogonal.h"

namespace neurogen {
namespace {

constexpr double kRate = 0.03125, kClip = 0.25;
constexpr StepControl kStep{.step = 7, .learning_rate = 99, .synapse_learning_rate = kRate};

template <typename Real>
struct Weights {
  Tensor<Real> gradient, value, momentum;

  Weights(std::int64_t rows, std::int64_t columns, unsigned seed)
      : gradient(Tensor<Real>::noise({rows, columns}, seed, 0.1)),
        value(Tensor<Real>::noise({rows, columns}, seed + 1, 0.2)),
        momentum(Tensor<Real>::noise({rows, columns}, seed + 2, 0.01)) {}
};

template <typename Real>
void run(int threads, std::vector<Weights<Real>*> all, StepControl control = kStep) {
  const std::int64_t rows = all[0]->value.shape[0], columns = all[0]->value.shape[1], side = std::min(rows, columns);
  const auto count = static_cast<std::int64_t>(all.size());
  Tensor<Real> norm({2}, static_cast<Real>(kClip)), x = Tensor<Real>::poisoned({count, rows, columns}), next = x,
                                                    gram = Tensor<Real>::poisoned({count, side, side}), square = gram;
  Tensor<double> sums = Tensor<double>::poisoned({count, matrix_muon_sums(rows * columns)});
  MatrixMuon a{make_view(&control, DType::u8, {sizeof control}),
               norm.view(),
               {},
               x.view(),
               next.view(),
               gram.view(),
               square.view(),
               sums.view()};
  for (Weights<Real>* w : all) a.updates.add({w->gradient.view(), w->value.view(), w->momentum.view()});
  matrix_muon(device_of(threads), a);
}

Matrix matrix(const Tensor<double>& x) {
  Matrix out;
  for (std::int64_t i = 0; i < x.shape[0]; ++i)
    out.emplace_back(x.data.begin() + i * x.shape[1], x.data.begin() + (i + 1) * x.shape[1]);
  return out;
}

TEST(MatrixMuon, FollowsTheFormulaForEveryShape) {
  for (const auto& [rows, columns] : {std::pair{12, 12}, std::pair{30, 7}, std::pair{9, 50}, std::pair{130, 140}}) {
    const Weights<double> before(rows, columns, static_cast<unsigned>(rows));
    const Weights<float> before_low(rows, columns, static_cast<unsigned>(rows));
    Weights<double> after = before;
    Weights<float> low = before_low;
    run<double>(2, {&after});
    run<float>(2, {&low});
    Tensor<double> u = before.value, momentum = before.value, value = before.value, change = before.value, low_change = change;
    for (std::int64_t i = 0; i < rows * columns; ++i) {
      const double g = before.gradient[i] * kClip;
      momentum[i] = 0.95 * before.momentum[i] + 0.05 * g;
      u[i] = 0.05 * g + 0.95 * momentum[i];
    }
    const Matrix turned = orthogonal(matrix(u));
    const double rate = kRate * std::sqrt(std::max(1.0, rows / static_cast<double>(columns)));
    for (std::int64_t i = 0; i < rows * columns; ++i) {
      value[i] = -rate * turned[i / columns][i % columns];
      change[i] = after.value[i] - before.value[i];
      low_change[i] = static_cast<double>(low.value[i]) - static_cast<double>(before_low.value[i]);
    }
    expect_close(after.momentum, momentum, 1e-12, "momentum");
    expect_close(change, value, 1e-10, "change");
    expect_close(low_change, value, 1e-3, "change in float32");
  }
}

TEST(MatrixMuon, ThreadsAndCompanyChangeNoBit) {
  Weights<float> a(70, 90, 1), b(70, 90, 2), c(70, 90, 3), alone = b, three_a = a, three_b = b, three_c = c;
  run<float>(1, {&a, &b, &c});
  run<float>(3, {&three_a, &three_b, &three_c});
  run<float>(2, {&alone});
  expect_same_bits(a.value, three_a.value, "threads");
  expect_same_bits(c.value, three_c.value, "threads");
  expect_same_bits(b.value, alone.value, "company");
  expect_same_bits(b.momentum, alone.momentum, "company");
}

TEST(MatrixMuon, AStepThatOverflowsChangesNothing) {
  Weights<float> before(20, 10, 1), after = before;
  run<float>(1, {&after}, {.synapse_learning_rate = 1, .overflow = 1});
  expect_same_bits(before.value, after.value, "value");
  expect_same_bits(before.momentum, after.momentum, "momentum");
  Weights<float> other(10, 20, 2);
  EXPECT_THROW(run<float>(1, {&before, &other}), Error);
}

}  // namespace
}  // namespace neurogen
