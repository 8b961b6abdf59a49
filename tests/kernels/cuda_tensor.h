// What the GPU's tests share: a device, tensors that live on it, and the same operands for a CPU and a GPU.
#pragma once
#include "arena/block.h"
#include "kernels/cuda_device.h"
#include "kernels/half.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {

inline CudaDevice& gpu() {
  static CudaDevice device;
  return device;
}

// A fixture for tests that need a GPU: passed over where there is none.
class OnGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (CudaDevice::count() == 0) GTEST_SKIP() << "no GPU";
  }
};

// Calls body(T{}) with float, Bf16 or F16.
template <typename Body>
void dispatch_stored(DType type, Body&& body) {
  if (type == DType::bf16) return body(Bf16{});
  if (type == DType::f16) return body(F16{});
  return body(float{});
}

// What remains of values that are stored as `type`.
inline Tensor<float> rounded(Tensor<float> x, DType type) {
  dispatch_stored(type, [&](auto stored) {
    for (float& value : x.data) narrow(value, stored), value = widen(stored);
  });
  return x;
}

inline double tolerance_of(DType type) { return type == DType::f32 ? 1e-5 : type == DType::bf16 ? 4e-2 : 5e-3; }
inline const std::vector<DType> kFloats = {DType::f32, DType::bf16, DType::f16};

// Memory of the GPU with a shape; every byte 0xFF (NaN, -1) until written.
class GpuTensor {
 public:
  GpuTensor(DType type, const Shape& shape) : shape_(shape), block_(Block::on_gpu(size_of(type, shape))) {
    view_ = make_view(block_.data(), type, shape);
    gpu().fill(block_.data(), 0xFF, block_.size());
  }
  template <typename T>
  GpuTensor(const Tensor<T>& from, DType type) : GpuTensor(type, from.shape) {
    if constexpr (std::is_same_v<T, float>) {
      dispatch_stored(type, [&](auto zero) {
        std::vector<decltype(zero)> stored(from.data.size());
        for (std::size_t i = 0; i < stored.size(); ++i) narrow(from.data[i], stored[i]);
        gpu().copy_now(stored.data(), block_.data(), block_.size());
      });
    } else {
      gpu().copy_now(from.data.data(), block_.data(), block_.size());
    }
  }
  template <typename T>
  explicit GpuTensor(const Tensor<T>& from) : GpuTensor(from, dtype_of<T>()) {}

  const TensorView& view() const { return view_; }
  operator const TensorView&() const { return view_; }

  // As T; 16-bit values widened.
  template <typename T = float>
  Tensor<T> host() const {
    Tensor<T> out(shape_, T(0));
    const auto fetch = [&](auto zero) {
      std::vector<decltype(zero)> stored(out.data.size());
      gpu().copy_now(block_.data(), stored.data(), block_.size());
      for (std::size_t i = 0; i < stored.size(); ++i) {
        if constexpr (std::is_same_v<T, float>) out.data[i] = widen(stored[i]);
        else out.data[i] = stored[i];
      }
    };
    if constexpr (std::is_same_v<T, float>) dispatch_stored(view_.dtype, fetch);
    else fetch(T{});
    return out;
  }

 private:
  Shape shape_;
  Block block_;
  TensorView view_;
};

// Whole numbers in [0, below).
inline Tensor<std::int32_t> draws(Shape shape, int below, unsigned seed) {
  Tensor<std::int32_t> x(std::move(shape), 0);
  std::mt19937 random(seed);
  for (std::int32_t& value : x.data) value = static_cast<std::int32_t>(random() % static_cast<unsigned>(below));
  return x;
}

}  // namespace neurogen
