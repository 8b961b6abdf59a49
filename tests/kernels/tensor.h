// A tensor that owns its memory, and CPU devices of 1 to 3 threads, for the kernels' tests.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "arena/tensor_view.h"
#include "kernels/base/device.h"
#include "kernels/base/step_control.h"

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

inline TensorView view_of(StepControl& control) { return make_view(&control, DType::u8, {sizeof control}); }

inline CpuDevice& device_of(int threads) {
  static CpuDevice devices[] = {CpuDevice(1), CpuDevice(2), CpuDevice(3)};
  return devices[threads - 1];
}

// Sum of a * b: a loss whose gradient with respect to a is b.
inline double inner(const Tensor<double>& a, const Tensor<double>& b) {
  return std::inner_product(a.data.begin(), a.data.end(), b.data.begin(), 0.0);
}

}  // namespace neurogen
