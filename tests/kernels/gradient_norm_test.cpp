#include "kernels/gradient_norm.h"

#include "arena/error.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

template <typename Real>
class GradientNorm : public testing::Test {};
using Reals = testing::Types<float, double>;
TYPED_TEST_SUITE(GradientNorm, Reals);

TYPED_TEST(GradientNorm, IsTheNormOfAllTensorsTogether) {
  using Real = TypeParam;
  auto a = Tensor<Real>::noise({37, 1001}, 1, 0.3), b = Tensor<Real>::noise({5}, 2, 2),
       c = Tensor<Real>::noise({kNormChunk * 2}, 3);
  Tensor<std::int32_t> rows({1}, 11);
  double expected = 0;
  for (std::int64_t i = 0; i < 11 * 1001; ++i) expected += static_cast<double>(a[i]) * a[i];
  for (const Real x : b.data) expected += static_cast<double>(x) * x;
  for (const Real x : c.data) expected += static_cast<double>(x) * x;
  expected = std::sqrt(expected);
  for (std::int64_t i = 11 * 1001; i < 37 * 1001; ++i) a[i] = std::numeric_limits<Real>::quiet_NaN();  // rows outside the norm

  const std::int64_t pa = norm_partials(37 * 1001), pb = norm_partials(5), pc = norm_partials(kNormChunk * 2);
  EXPECT_EQ(pa, 3);
  EXPECT_EQ(pb, 1);
  EXPECT_EQ(pc, 2);
  EXPECT_EQ(norm_partials(0), 0);
  Tensor<double> first;
  for (const int threads : {1, 2, 3}) {
    auto partials = Tensor<double>::poisoned({pa + pb + pc});
    CpuDevice& device = device_of(threads);
    sum_of_squares(device, {{{a.view(), rows.view()}, {b.view(), {}}, {c.view(), {}}}, partials.view()});
    EXPECT_EQ(partials[2], 0);
    if (threads == 1) first = partials;
    expect_same_bits(partials, first, "partials");

    for (const double limit : {1.0, 1000.0}) {
      auto norm = Tensor<Real>::poisoned({2});
      clip_factor(device, {partials.view(), limit, norm.view()});
      const double precision = sizeof(Real) == 8 ? 1e-13 : 1e-6;
      EXPECT_NEAR(norm[0], expected, precision * expected);
      EXPECT_NEAR(norm[1], std::min(1.0, limit / (expected + 1e-6)), precision);
    }
  }
}

TYPED_TEST(GradientNorm, RefusesStridedRowsAndTheWrongNumberOfSums) {
  auto x = Tensor<TypeParam>::noise({4, 6}, 1);
  Tensor<double> partials({2}, 0);
  EXPECT_THROW(sum_of_squares(device_of(1), {{{x.view().columns(0, 3), {}}}, partials.view().rows(0, 1)}), Error);
  EXPECT_THROW(sum_of_squares(device_of(1), {{{x.view(), {}}}, partials.view()}), Error);
}

}  // namespace
}  // namespace neurogen
