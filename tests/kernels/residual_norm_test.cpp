#include "kernels/residual_norm.h"

#include "arena/error.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

constexpr std::int64_t kRows = 53, kWidth = 72;

template <typename Real>
struct Sum {
  using T = Tensor<Real>;
  Norm norm;
  T x = T::noise({kRows, kWidth}, 1, 1, 0.3), branch = T::noise({kRows, kWidth}, 2), branch_bias = T::noise({kWidth}, 3),
    gain = T::noise({kWidth}, 4, 0.3, 1), bias = norm == Norm::layer ? T::noise({kWidth}, 5) : T();
  T y = T::poisoned({kRows, kWidth}), out = y, inverse = T::poisoned({kRows}), mean = norm == Norm::layer ? inverse : T();
  // A loss of both results: the stream's gradient is d_stream where it is not read by the norm.
  T d_out = T::noise({kRows, kWidth}, 6), d_stream = T::noise({kRows, kWidth}, 7);
  T d_y = d_stream, d_branch = out, normed = out, d_gain = T::poisoned({kWidth}), d_bias = bias.data.empty() ? T() : d_gain,
    d_branch_bias = d_gain, sums = T::poisoned({row_parts(kRows), 3 * kWidth});

  explicit Sum(Norm n) : norm(n) {}
  void forward(int threads) {
    residual_norm_forward(device_of(threads), {norm, 1e-3, x.view(), branch.view(), branch_bias.view(), y.view(), gain.view(),
                                               bias.view(), out.view(), mean.view(), inverse.view()});
  }
  void backward(int threads, bool stored = false) {
    residual_norm_backward(device_of(threads),
                           {norm, y.view(), mean.view(), inverse.view(), gain.view(), bias.view(), d_out.view(), d_y.view(), stored,
                            d_branch.view(), normed.view(), d_gain.view(), d_bias.view(), d_branch_bias.view(), sums.view()});
  }
};

class ResidualNorm : public testing::TestWithParam<Norm> {};

TEST_P(ResidualNorm, EqualsTheFormulaAndItsGradients) {
  Sum<double> a(GetParam());
  const bool layer = a.norm == Norm::layer;
  a.forward(2);
  for (std::int64_t n = 0; n < kRows; ++n) {
    double mean = 0, squares = 0;
    const auto y = [&](std::int64_t i) { return a.x[n * kWidth + i] + a.branch[n * kWidth + i] + a.branch_bias[i]; };
    for (std::int64_t i = 0; i < kWidth && layer; ++i) mean += y(i) / kWidth;
    for (std::int64_t i = 0; i < kWidth; ++i) squares += (y(i) - mean) * (y(i) - mean) / kWidth;
    for (std::int64_t i = 0; i < kWidth; ++i) {
      EXPECT_NEAR(a.y[n * kWidth + i], y(i), 1e-13);
      EXPECT_NEAR(a.out[n * kWidth + i], (y(i) - mean) / std::sqrt(squares + 1e-3) * a.gain[i] + (layer ? a.bias[i] : 0), 1e-13);
    }
  }
  a.backward(2);
  expect_same_bits(a.normed, a.out, "the norm's output once more");
  expect_same_bits(a.d_branch, a.d_y, "the branch's gradient");
  const auto loss = [&] {
    a.forward(1);
    return inner(a.out, a.d_out) + inner(a.y, a.d_stream);
  };
  expect_gradient(a.x, a.d_y, loss, "x");
  expect_gradient(a.branch_bias, a.d_branch_bias, loss, "branch_bias");
  expect_gradient(a.gain, a.d_gain, loss, "gain");
  if (layer) expect_gradient(a.bias, a.d_bias, loss, "bias");
}

TEST_P(ResidualNorm, ThreadsPrecisionAndPlaceChangeNothing) {
  Sum<float> one(GetParam()), three(GetParam()), in_place(GetParam());
  Sum<double> exact(GetParam());
  one.forward(1), three.forward(3), exact.forward(1);
  one.backward(1), three.backward(3), exact.backward(1);
  expect_same_bits(one.out, three.out, "out");
  expect_same_bits(one.d_y, three.d_y, "d_y");
  expect_same_bits(one.d_gain, three.d_gain, "d_gain");
  expect_same_bits(one.d_branch_bias, three.d_branch_bias, "d_branch_bias");
  expect_close(one.out, exact.out, 1e-5, "out");
  expect_close(one.d_y, exact.d_y, 1e-5, "d_y");
  expect_close(one.d_gain, exact.d_gain, 1e-5, "d_gain");
  // y in the place of x, the output once more in that of its gradient.
  residual_norm_forward(device_of(2), {in_place.norm, 1e-3, in_place.x.view(), in_place.branch.view(), in_place.branch_bias.view(),
                                       in_place.x.view(), in_place.gain.view(), in_place.bias.view(), in_place.out.view(),
                                       in_place.mean.view(), in_place.inverse.view()});
  expect_same_bits(in_place.x, one.y, "y");
  residual_norm_backward(
      device_of(2), {in_place.norm, in_place.x.view(), in_place.mean.view(), in_place.inverse.view(), in_place.gain.view(),
                     in_place.bias.view(), in_place.d_out.view(), in_place.d_y.view(), false, TensorView{}, in_place.d_out.view(),
                     in_place.d_gain.view(), in_place.d_bias.view(), in_place.d_branch_bias.view(), in_place.sums.view()});
  expect_same_bits(in_place.d_out, one.out, "the norm's output once more");
  expect_same_bits(in_place.d_y, one.d_y, "d_y");
}

TEST_P(ResidualNorm, StoresAGradientOrAddsToIt) {
  Sum<double> added(GetParam()), stored(GetParam());
  added.d_y = Tensor<double>({kRows, kWidth}, 0);
  stored.d_y = Tensor<double>::poisoned({kRows, kWidth});
  added.forward(1), stored.forward(1);
  added.backward(1), stored.backward(1, true);
  expect_same_bits(added.d_y, stored.d_y, "d_y");
  EXPECT_THROW(
      residual_norm_forward(
          device_of(1),
          {Norm::layer, 1e-3, stored.x.view(), {}, {}, {}, stored.gain.view(), {}, stored.out.view(), {}, stored.inverse.view()}),
      Error);
}

INSTANTIATE_TEST_SUITE_P(Norms, ResidualNorm, testing::Values(Norm::layer, Norm::rms),
                         [](const auto& test) { return test.param == Norm::layer ? "layer" : "rms"; });

}  // namespace
}  // namespace neurogen
