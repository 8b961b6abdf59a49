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

#include "arena/tensor_view.h"
#include "kernels/base/device.h"

namespace neurogen {

template <typename T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::f32;
  else if constexpr (std::is_same_v<T, double>) return DType::f64;
  else if constexpr (std::is_same_v<T, std::int32_t>) return DType::i32;
  else return DType::i64;
}

template <typename T>
struct Tensor {
  Shape shape;
  std::vector<T> data;

  Tensor() = default;
  Tensor(Shape extents, T value)
      : shape(std::move(extents)),
        data(static_cast<std::size_t>(std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>())), value) {}
  // Filled with NaN, so that elements an operation has not written show.
  static Tensor poisoned(Shape extents) {
    return {std::move(extents), std::is_integral_v<T> ? T(-77) : std::numeric_limits<T>::quiet_NaN()};
  }
  // Gives the same values in every precision.
  static Tensor noise(Shape extents, unsigned seed, double scale = 1, double mean = 0) {
    Tensor x(std::move(extents), T(0));
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(mean, scale);
    for (T& value : x.data) value = static_cast<T>(static_cast<float>(normal(random)));
    return x;
  }
  TensorView view() { return data.empty() ? TensorView{} : make_view(data.data(), dtype_of<T>(), shape); }
  T& operator[](std::int64_t i) { return data[static_cast<std::size_t>(i)]; }
  const T& operator[](std::int64_t i) const { return data[static_cast<std::size_t>(i)]; }
};

inline CpuDevice& device_of(int threads) {
  static CpuDevice devices[] = {CpuDevice(1), CpuDevice(2), CpuDevice(3)};
  return devices[threads - 1];
}

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

// Sum of a * b: a loss whose gradient with respect to a is b.
inline double inner(const Tensor<double>& a, const Tensor<double>& b) {
  return std::inner_product(a.data.begin(), a.data.end(), b.data.begin(), 0.0);
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
