// Helpers for tests of CUDA operations: a GPU or a reason to skip, tensors in its memory, and comparison with the CPU in float64 on
// the same rounded inputs.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include "arena/error.h"
#include "kernels/base/cuda_device.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {

inline CudaDevice& gpu() {
  static CudaDevice device;
  return device;
}

// Every run draws other shapes and values; a failing test prints its seed.
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

// Limits the shared memory per block for operations during its lifetime.
struct SharedMemory {
  explicit SharedMemory(Bytes bytes) { gpu().limit_shared_memory(bytes); }
  ~SharedMemory() { gpu().limit_shared_memory(UINT64_MAX); }
};
inline constexpr Bytes kOfSmallerCards = 99 * 1024;  // compute capability 8.6 and 8.9

inline double rounded(double x, DType type) {
  const float single = static_cast<float>(x);
  if (type == DType::bf16) return static_cast<double>(__bfloat162float(__float2bfloat16_rn(single)));
  if (type == DType::f16) return static_cast<double>(__half2float(__float2half_rn(single)));
  return static_cast<double>(single);
}

template <typename Real>
Tensor<Real> rounded(Tensor<Real> x, DType type) {
  for (Real& value : x.data) value = static_cast<Real>(rounded(static_cast<double>(value), type));
  return x;
}

// Whole numbers in [0, below).
inline Tensor<std::int32_t> draws(Shape shape, int below, unsigned seed) {
  Tensor<std::int32_t> x(std::move(shape), 0);
  std::mt19937 random(seed);
  for (std::int32_t& value : x.data) value = static_cast<std::int32_t>(random() % static_cast<unsigned>(below));
  return x;
}

// Memory of the GPU with the values of a host tensor, which are rounded to `type` on both sides.
class OnGpu {
 public:
  OnGpu() = default;
  template <typename Real>
  OnGpu(Tensor<Real>& host, DType type) : shape_(host.shape), type_(type) {
    if (host.data.empty()) return;  // operand not given
    for (Real& x : host.data) x = static_cast<Real>(rounded(static_cast<double>(x), type));
    std::vector<std::byte> bytes(static_cast<std::size_t>(size_of(type, shape_)));
    for (std::size_t i = 0; i < host.data.size(); ++i) {
      const float x = static_cast<float>(host.data[i]);
      if (type == DType::f32) reinterpret_cast<float*>(bytes.data())[i] = x;
      if (type == DType::bf16) reinterpret_cast<__nv_bfloat16*>(bytes.data())[i] = __float2bfloat16_rn(x);
      if (type == DType::f16) reinterpret_cast<__half*>(bytes.data())[i] = __float2half_rn(x);
    }
    upload(bytes.data(), bytes.size());
  }
  template <typename T>
  explicit OnGpu(const Tensor<T>& host) : shape_(host.shape), type_(dtype_of<T>()) {
    upload(host.data.data(), host.data.size() * sizeof(T));
  }
  // Every byte is 0xFF (NaN or -1) until written.
  OnGpu(DType type, Shape shape) : OnGpu(poisoned(std::move(shape), type)) {}
  static OnGpu poisoned(Shape shape, DType type) {
    OnGpu tensor;
    const std::vector<std::byte> ones(static_cast<std::size_t>(size_of(type, shape)), std::byte{0xFF});
    tensor.shape_ = std::move(shape);
    tensor.type_ = type;
    tensor.upload(ones.data(), ones.size());
    return tensor;
  }

  TensorView view() const { return memory_ ? make_view(memory_.get(), type_, shape_) : TensorView{}; }
  operator TensorView() const { return view(); }

  Tensor<double> values() const {
    Tensor<double> host(shape_, 0);
    const std::vector<std::byte> bytes = download();
    for (std::size_t i = 0; i < host.data.size(); ++i) {
      if (type_ == DType::f32) host.data[i] = static_cast<double>(reinterpret_cast<const float*>(bytes.data())[i]);
      if (type_ == DType::bf16)
        host.data[i] = static_cast<double>(__bfloat162float(reinterpret_cast<const __nv_bfloat16*>(bytes.data())[i]));
      if (type_ == DType::f16) host.data[i] = static_cast<double>(__half2float(reinterpret_cast<const __half*>(bytes.data())[i]));
      if (type_ == DType::f64) host.data[i] = reinterpret_cast<const double*>(bytes.data())[i];
      if (type_ == DType::i32) host.data[i] = static_cast<double>(reinterpret_cast<const std::int32_t*>(bytes.data())[i]);
    }
    return host;
  }

 private:
  void upload(const void* from, std::size_t bytes) {
    if (bytes == 0) return;
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

// ||actual - expected|| / ||size||; NaN never passes.
inline void expect_close_beside(const OnGpu& actual, const Tensor<double>& expected, const Tensor<double>& size, double tolerance,
                                const char* what) {
  const Tensor<double> values = actual.values();
  ASSERT_EQ(values.shape, expected.shape) << what;
  double difference = 0, norm = 1e-60;
  for (std::size_t i = 0; i < values.data.size(); ++i) {
    difference += (values.data[i] - expected.data[i]) * (values.data[i] - expected.data[i]);
    norm += size.data[i] * size.data[i];
  }
  EXPECT_LT(std::sqrt(difference / norm), tolerance) << what;
}
inline void expect_close_in_norm(const OnGpu& actual, const Tensor<double>& expected, double tolerance, const char* what) {
  expect_close_beside(actual, expected, expected, tolerance, what);
}

template <typename T>
void expect_same_values(const OnGpu& actual, const Tensor<T>& expected, const char* what) {
  Tensor<double> wide(expected.shape, 0);
  std::transform(expected.data.begin(), expected.data.end(), wide.data.begin(), [](T x) { return static_cast<double>(x); });
  expect_same_bits(actual.values(), wide, what);
}
inline void expect_same_values(const OnGpu& a, const OnGpu& b, const char* what) { expect_same_bits(a.values(), b.values(), what); }

inline const std::vector<DType> kFloats = {DType::f32, DType::bf16, DType::f16};
// The largest error of an entry that a final rounding explains, in units of the tensor's root mean square.
inline double tolerance_of(DType type) { return type == DType::f32 ? 1e-5 : type == DType::bf16 ? 4e-2 : 5e-3; }

// The type that stores gradients of outputs next to products of this type.
inline DType gradient_of(DType type) { return type == DType::bf16 ? type : DType::f32; }

// Half a unit in the last place of a 16-bit output, as a share; negligible for a 32-bit one.
inline double rounding(DType type) { return type == DType::bf16 ? 0x1p-8 : type == DType::f16 ? 0x1p-11 : 0; }

// For tokens [0, tokens) in windows: the index of the first token of each token's document; documents are drawn at random.
template <typename Draw>
Tensor<std::int32_t> documents_of(std::int64_t windows, std::int64_t window, Draw&& draw) {
  Tensor<std::int32_t> first({windows * window}, 0);
  for (std::int64_t w = 0; w < windows; ++w)
    for (std::int64_t t = 1; t < window; ++t)
      first[w * window + t] = draw(0, window) < 3 ? static_cast<std::int32_t>(t) : first[w * window + t - 1];
  return first;
}

}  // namespace neurogen
