// What the tests of CUDA operations share: a GPU or a reason to skip, tensors in its memory, and comparison with the CPU in
// float64 on the same rounded inputs.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include "arena/error.h"
#include "kernels/cuda_device.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {

inline CudaDevice& gpu() {
  static CudaDevice device;
  return device;
}

// Every run draws other shapes and values; the seed is printed where a test fails.
class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    if (CudaDevice::count() == 0) GTEST_SKIP() << "there is no GPU here";
  }
  std::int64_t draw(std::int64_t least, std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>(least, most)(random_);
  }
  Tensor<double> noise(Shape shape, double scale = 1, double mean = 0) {
    return Tensor<double>::noise(std::move(shape), static_cast<unsigned>(random_()), scale, mean);
  }

 private:
  unsigned seed_ = std::random_device{}();
  std::mt19937 random_{seed_};
  testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
};

inline double rounded(double x, DType type) {
  const float single = static_cast<float>(x);
  if (type == DType::bf16) return static_cast<double>(__bfloat162float(__float2bfloat16_rn(single)));
  if (type == DType::f16) return static_cast<double>(__half2float(__float2half_rn(single)));
  return static_cast<double>(single);
}

// Memory of the GPU with the values of a host tensor, which are rounded to `type` on both sides.
class OnGpu {
 public:
  OnGpu() = default;
  OnGpu(Tensor<double>& host, DType type) : shape_(host.shape), type_(type) {
    if (host.data.empty()) return;  // an absent operand
    for (double& x : host.data) x = rounded(x, type);
    std::vector<std::byte> bytes(static_cast<std::size_t>(size_of(type, shape_)));
    for (std::size_t i = 0; i < host.data.size(); ++i) {
      const float x = static_cast<float>(host.data[i]);
      if (type == DType::f32) reinterpret_cast<float*>(bytes.data())[i] = x;
      if (type == DType::bf16) reinterpret_cast<__nv_bfloat16*>(bytes.data())[i] = __float2bfloat16_rn(x);
      if (type == DType::f16) reinterpret_cast<__half*>(bytes.data())[i] = __float2half_rn(x);
    }
    upload(bytes.data(), bytes.size());
  }
  template <typename Integer>
  explicit OnGpu(const Tensor<Integer>& host) : shape_(host.shape), type_(dtype_of<Integer>()) {
    upload(host.data.data(), host.data.size() * sizeof(Integer));
  }
  static OnGpu poisoned(Shape shape, DType type) {
    Tensor<double> nan = Tensor<double>::poisoned(std::move(shape));
    return OnGpu(nan, type);
  }

  TensorView view() const { return memory_ ? make_view(memory_.get(), type_, shape_) : TensorView{}; }
  explicit operator bool() const { return memory_ != nullptr; }

  Tensor<double> values() const {
    Tensor<double> host(shape_, 0);
    const std::vector<std::byte> bytes = download();
    for (std::size_t i = 0; i < host.data.size(); ++i) {
      if (type_ == DType::f32) host.data[i] = static_cast<double>(reinterpret_cast<const float*>(bytes.data())[i]);
      if (type_ == DType::bf16)
        host.data[i] = static_cast<double>(__bfloat162float(reinterpret_cast<const __nv_bfloat16*>(bytes.data())[i]));
      if (type_ == DType::f16)
        host.data[i] = static_cast<double>(__half2float(reinterpret_cast<const __half*>(bytes.data())[i]));
      if (type_ == DType::i32) host.data[i] = static_cast<double>(reinterpret_cast<const std::int32_t*>(bytes.data())[i]);
    }
    return host;
  }

 private:
  void upload(const void* from, std::size_t bytes) {
    void* memory = nullptr;
    if (cudaMalloc(&memory, bytes) != cudaSuccess) throw Error("the GPU has no memory for a test");
    memory_ = {memory, [](void* p) { cudaFree(p); }};
    gpu().copy_now(from, memory, bytes);
  }
  std::vector<std::byte> download() const {
    std::vector<std::byte> bytes(static_cast<std::size_t>(size_of(type_, shape_)));
    gpu().copy_now(memory_.get(), bytes.data(), bytes.size());
    return bytes;
  }

  Shape shape_;
  DType type_ = DType::f32;
  std::shared_ptr<void> memory_;
};

// ||actual - expected|| / ||expected||; NaN never passes.
inline void expect_close_in_norm(const OnGpu& actual, const Tensor<double>& expected, double tolerance, const char* what) {
  const Tensor<double> values = actual.values();
  ASSERT_EQ(values.shape, expected.shape) << what;
  double difference = 0, norm = 1e-60;
  for (std::size_t i = 0; i < values.data.size(); ++i) {
    difference += (values.data[i] - expected.data[i]) * (values.data[i] - expected.data[i]);
    norm += expected.data[i] * expected.data[i];
  }
  EXPECT_LT(std::sqrt(difference / norm), tolerance) << what;
}

inline void expect_same_values(const OnGpu& a, const OnGpu& b, const char* what) {
  expect_same_bits(a.values(), b.values(), what);
}

// The most that rounding changes a 16-bit number, as a share; a 32-bit one by nothing to speak of.
inline double rounding(DType type) { return type == DType::bf16 ? 0x1p-8 : type == DType::f16 ? 0x1p-11 : 0; }

// [0, tokens) in windows: index of each token's document's first token, documents drawn at random.
template <typename Draw>
Tensor<std::int32_t> documents_of(std::int64_t windows, std::int64_t window, Draw&& draw) {
  Tensor<std::int32_t> first({windows * window}, 0);
  for (std::int64_t w = 0; w < windows; ++w)
    for (std::int64_t t = 1; t < window; ++t)
      first[w * window + t] = draw(0, window) < 3 ? static_cast<std::int32_t>(t) : first[w * window + t - 1];
  return first;
}

}  // namespace neurogen
