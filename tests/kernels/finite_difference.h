// Helpers for the kernels' tests: tensors that own their memory, devices of 1 to 3 threads, and gradients checked against central
// differences in float64.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "tests/kernels/tensor.h"

namespace neurogen {

template <typename T>
void expect_same_bits(const Tensor<T>& a, const Tensor<T>& b, const char* what) {
  ASSERT_EQ(a.shape, b.shape) << what;
  EXPECT_TRUE(a.data.empty() || std::memcmp(a.data.data(), b.data.data(), a.data.size() * sizeof(T)) == 0) << what;
}

// The largest difference of an entry, in units of the tensor's root mean square.
template <typename A, typename B>
void expect_close(const Tensor<A>& actual, const Tensor<B>& expected, double tolerance, const char* what) {
  ASSERT_EQ(actual.shape, expected.shape) << what;
  double squares = 0, worst = 0;
  for (const B value : expected.data) squares += static_cast<double>(value) * static_cast<double>(value);
  const double scale = std::sqrt(squares / static_cast<double>(expected.data.size())) + 1e-30;
  for (std::size_t i = 0; i < expected.data.size(); ++i) {
    const double error = std::abs(static_cast<double>(actual.data[i]) - static_cast<double>(expected.data[i])) / scale;
    worst = error <= worst ? worst : error;  // NaN becomes the worst
  }
  EXPECT_LT(worst, tolerance) << what;
}

// Checks the gradient of `loss`, which reads x: all entries of a small x, some of a large one.
template <typename Loss>
void expect_gradient(Tensor<double>& x, const Tensor<double>& gradient, Loss&& loss, const char* what) {
  ASSERT_EQ(x.shape, gradient.shape) << what;
  constexpr double kStep = 1e-4;
  const std::size_t stride = std::max<std::size_t>(1, x.data.size() / 37);
  double squares = 0, worst = 0;
  for (const double g : gradient.data) squares += g * g;
  const double scale = std::sqrt(squares / static_cast<double>(gradient.data.size()));
  EXPECT_GT(scale, 0) << what << ": nothing to check";
  for (std::size_t i = 0; i < x.data.size(); i += stride) {
    const double at = x.data[i];
    const auto loss_at = [&](double value) {
      x.data[i] = value;
      return loss();
    };
    // Fourth order permits steps large enough to keep rounding out of the result.
    const double difference =
        (8 * (loss_at(at + kStep) - loss_at(at - kStep)) - (loss_at(at + 2 * kStep) - loss_at(at - 2 * kStep))) / (12 * kStep);
    x.data[i] = at;
    const double error = std::abs(difference - gradient.data[i]) / (std::abs(gradient.data[i]) + scale);
    worst = error <= worst ? worst : error;
  }
  EXPECT_LT(worst, 1e-6) << what;
}

}  // namespace neurogen
