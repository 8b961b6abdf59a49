#include "kernels/matmul.h"

#include "arena/error.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

template <typename Real>
struct Product {
  Tensor<Real> a, b, c;
  Matmul arguments;

  // c starts as NaN if beta is 0.
  Product(std::int64_t m, std::int64_t n, std::int64_t k, Transpose ta, Transpose tb, double beta)
      : a(Tensor<Real>::noise(ta == Transpose::yes ? Shape{k, m} : Shape{m, k}, 1)),
        b(Tensor<Real>::noise(tb == Transpose::yes ? Shape{n, k} : Shape{k, n}, 2)),
        c(beta == 0 ? Tensor<Real>::poisoned({m, n}) : Tensor<Real>::noise({m, n}, 3)),
        arguments{a.view(), b.view(), c.view(), ta, tb, beta} {}
};

Tensor<double> naive(const Product<double>& p) {
  const bool ta = p.arguments.transpose_a == Transpose::yes, tb = p.arguments.transpose_b == Transpose::yes;
  Tensor<double> c = p.c;
  const std::int64_t m = c.shape[0], n = c.shape[1], k = p.a.shape[ta ? 0 : 1];
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = p.arguments.beta == 0 ? 0 : c[i * n + j];
      for (std::int64_t l = 0; l < k; ++l) sum += p.a[ta ? l * m + i : i * k + l] * p.b[tb ? j * k + l : l * n + j];
      c[i * n + j] = sum;
    }
  return c;
}

TEST(Matmul, EqualsTheFormulaInAllOrientations) {
  for (const auto [m, n, k] : {std::array{1, 1, 1}, std::array{5, 7, 3}, std::array{300, 70, 40}, std::array{33, 700, 65}})
    for (const Transpose ta : {Transpose::no, Transpose::yes})
      for (const Transpose tb : {Transpose::no, Transpose::yes})
        for (const double beta : {0.0, 1.0}) {
          Product<double> exact(m, n, k, ta, tb, beta);
          Product<float> single(m, n, k, ta, tb, beta);
          const Tensor<double> expected = naive(exact);
          matmul(device_of(2), exact.arguments);
          matmul(device_of(2), single.arguments);
          expect_close(exact.c, expected, 1e-13, "float64");
          expect_close(single.c, expected, 1e-5, "float32");
        }
}

TEST(Matmul, ABatchHasTheBitsOfItsProducts) {
  for (const Transpose ta : {Transpose::no, Transpose::yes})
    for (const Transpose tb : {Transpose::no, Transpose::yes}) {
      constexpr std::int64_t m = 300, n = 650, k = 40, count = 3;
      Tensor<float> a = Tensor<float>::noise({count, ta == Transpose::yes ? k : m, ta == Transpose::yes ? m : k}, 1);
      Tensor<float> b = Tensor<float>::noise({count, tb == Transpose::yes ? n : k, tb == Transpose::yes ? k : n}, 2);
      Tensor<float> together = Tensor<float>::poisoned({count, m, n}), alone = together;
      matmul(device_of(2), {a.view(), b.view(), together.view(), ta, tb, 0});
      const auto one = [](Tensor<float>& x, std::int64_t i) { return x.view().rows(i, 1).reshaped({x.shape[1], x.shape[2]}); };
      for (std::int64_t i = 0; i < count; ++i) matmul(device_of(2), {one(a, i), one(b, i), one(alone, i), ta, tb, 0});
      expect_same_bits(together, alone, "batch");
    }
}

TEST(Matmul, EveryNumberOfThreadsGivesEqualBits) {
  for (const Transpose ta : {Transpose::no, Transpose::yes}) {
    std::vector<Tensor<float>> results;
    for (const int threads : {1, 2, 3}) {
      Product<float> p(700, 1500, 130, ta, Transpose::yes, 0);
      matmul(device_of(threads), p.arguments);
      results.push_back(p.c);
    }
    expect_same_bits(results[0], results[1], "2 threads");
    expect_same_bits(results[0], results[2], "3 threads");
  }
}

TEST(Matmul, TakesStridedRowsAndLeavesTheRestAlone) {
  auto a = Tensor<double>::noise({4, 9}, 1), b = Tensor<double>::noise({3, 8}, 2);
  Tensor<double> c({4, 10}, 5);
  matmul(device_of(1), {.a = a.view().columns(2, 3), .b = b.view().columns(1, 6), .c = c.view().columns(3, 6)});
  for (std::int64_t i = 0; i < 4; ++i)
    for (std::int64_t j = 0; j < 10; ++j) {
      double expected = j < 3 || j == 9 ? 5 : 0;
      if (expected == 0)
        for (std::int64_t l = 0; l < 3; ++l) expected += a[i * 9 + 2 + l] * b[l * 8 + 1 + j - 3];
      EXPECT_NEAR(c[i * 10 + j], expected, 1e-12);
    }
}

TEST(Matmul, RefusesWhatDoesNotFit) {
  Tensor<float> a({2, 3}, 1), b({4, 5}, 1), c({2, 5}, 0);
  Tensor<double> wide({3, 5}, 1);
  EXPECT_THROW(matmul(device_of(1), {.a = a.view(), .b = b.view(), .c = c.view()}), Error);
  EXPECT_THROW(matmul(device_of(1), {.a = a.view(), .b = wide.view(), .c = c.view()}), Error);
}

}  // namespace
}  // namespace neurogen
