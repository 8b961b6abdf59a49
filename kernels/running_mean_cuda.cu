#include "kernels/base/cuda_kernel.cuh"
#include "kernels/running_mean.h"

namespace neurogen {
namespace {

constexpr int kThreads = 256;

__global__ void next_share(const double* total, double* counted, double* share) {
  *counted += total[1];
  *share = *counted > 0 ? total[1] / *counted : 1;
}

__device__ float4 scaled(float4 x, float by) { return {x.x * by, x.y * by, x.z * by, x.w * by}; }
__device__ float4 sum(float4 x, float4 y) { return {x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w}; }

// `value` is null for a table: add_rows follows.
template <typename T>
__global__ void __launch_bounds__(kThreads) mean_all(const double* share, const T* value, float* mean, std::int64_t elements) {
  const std::int64_t i = 4 * (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x);
  const double part = *share;
  if (i >= elements || part == 0) return;
  float4 x = part == 1 ? float4{0, 0, 0, 0} : scaled(load_four(mean + i), static_cast<float>(1 - part));
  if (value) x = sum(x, scaled(load_four(value + i), static_cast<float>(part)));
  store_four(mean + i, x);
}

// One block per touched row; blocks beyond `count` return at once.
template <typename T>
__global__ void __launch_bounds__(kThreads) add_rows(const double* share, const T* value, float* mean, const std::int32_t* rows,
                                                     const std::int32_t* count, std::int64_t width) {
  const std::int64_t row = blockIdx.x;
  const double part = *share;
  if (row >= *count || part == 0) return;
  float* const to = mean + rows[row] * width;
  for (std::int64_t e = 4 * threadIdx.x; e < width; e += 4 * kThreads)
    store_four(to + e, sum(load_four(to + e), scaled(load_four(value + row * width + e), static_cast<float>(part))));
}

}  // namespace

void running_mean_share(CudaDevice& device, const RunningMeanShare& a) {
  launch(device, "running_mean_share", next_share, dim3(1), dim3(1), 0, a.total.as<const double>(), a.counted.as<double>(),
         a.share.as<double>());
}

void running_mean(CudaDevice& device, const RunningMean& a) {
  const std::int64_t elements = a.mean.elements(), width = a.rows ? a.mean[1] : elements;
  require_operands(a.mean.dtype == DType::f32 && a.mean.contiguous() && a.value.contiguous() && width % 4 == 0,
                   "running_mean: the mean must be f32, and tensors contiguous with a multiple of 4 elements");
  const auto* share = a.share.as<const double>();
  dispatch_float(a.value.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* const value = a.value.as<const T>();
    launch(device, "running_mean", mean_all<T>, dim3(pieces(elements, 4 * kThreads)), dim3(kThreads), 0, share,
           a.rows ? nullptr : value, a.mean.as<float>(), elements);
    if (!a.rows) return;
    launch(device, "running_mean", add_rows<T>, dim3(pieces(a.value[0], 1)), dim3(kThreads), 0, share, value, a.mean.as<float>(),
           a.rows.as<const std::int32_t>(), a.count.as<const std::int32_t>(), width);
  });
}

}  // namespace neurogen
