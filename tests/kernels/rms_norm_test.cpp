#include "kernels/rms_norm.h"

#include "arena/error.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

template <typename Real>
struct Norm {
  Tensor<Real> x = Tensor<Real>::noise({21, 96}, 1), gain = Tensor<Real>::noise({96}, 2, 0.3, 1),
               d_out = Tensor<Real>::noise({21, 96}, 3);
  Tensor<Real> out = Tensor<Real>::poisoned({21, 96}), inverse_rms = Tensor<Real>::poisoned({21}),
               dot = Tensor<Real>::poisoned({21});

  void run(int threads) {
    rms_norm_forward(device_of(threads),
                     {.x = x.view(), .gain = gain.view(), .out = out.view(), .inverse_rms = inverse_rms.view()});
    rms_norm_backward_dot(device_of(threads), {.d_out = d_out.view(), .out = out.view(), .dot = dot.view()});
  }
};

// The second half of the backward pass, as done by the operations before the norm.
TEST(RmsNorm, EqualsTheFormulaAndItsGradient) {
  Norm<double> a;
  a.run(2);
  Tensor<double> d_x({21, 96}, 0), d_gain({96}, 0);
  for (std::int64_t n = 0; n < 21; ++n) {
    double squares = 0;
    for (std::int64_t o = 0; o < 96; ++o) squares += a.x[n * 96 + o] * a.x[n * 96 + o];
    EXPECT_NEAR(a.inverse_rms[n], 1 / std::sqrt(squares / 96 + 1e-5), 1e-13);
    for (std::int64_t o = 0; o < 96; ++o) {
      const double normed = a.x[n * 96 + o] * a.inverse_rms[n];
      EXPECT_NEAR(a.out[n * 96 + o], normed * a.gain[o], 1e-13);
      d_gain[o] += a.d_out[n * 96 + o] * normed;
      d_x[n * 96 + o] = a.inverse_rms[n] * (a.gain[o] * a.d_out[n * 96 + o] - normed * a.dot[n]);
    }
  }
  const auto loss = [&] {
    a.run(1);
    return inner(a.out, a.d_out);
  };
  expect_gradient(a.x, d_x, loss, "x");
  expect_gradient(a.gain, d_gain, loss, "gain");
}

TEST(RmsNorm, ThreadsPrecisionAndPlaceChangeNothing) {
  Norm<float> one, three, in_place;
  Norm<double> exact;
  one.run(1);
  three.run(3);
  exact.run(1);
  expect_same_bits(one.out, three.out, "out");
  expect_same_bits(one.dot, three.dot, "dot");
  expect_close(one.out, exact.out, 1e-6, "out");
  expect_close(one.dot, exact.dot, 1e-5, "dot");
  rms_norm_forward(
      device_of(2),
      {.x = in_place.x.view(), .gain = in_place.gain.view(), .out = in_place.x.view(), .inverse_rms = in_place.inverse_rms.view()});
  expect_same_bits(in_place.x, one.out, "in place");
  EXPECT_THROW(rms_norm_forward(
                   device_of(1),
                   {.x = one.x.view(), .gain = exact.gain.view(), .out = one.out.view(), .inverse_rms = one.inverse_rms.view()}),
               Error);
}

}  // namespace
}  // namespace neurogen
