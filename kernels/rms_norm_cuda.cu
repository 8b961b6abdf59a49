#include "kernels/base/cuda_kernel.cuh"
#include "kernels/rms_norm.h"

namespace neurogen {
namespace {

template <int kThreads, typename Out>
__global__ void normalise(const GradientOf<Out>* x, std::int64_t x_stride, const float* gain, Out* out, std::int64_t out_stride,
                          float* inverse_rms, std::int64_t width) {
  const std::int64_t row = blockIdx.x;
  rms_normalise_row<kThreads>(RowAt<GradientOf<Out>>{x + row * x_stride}, gain, out + row * out_stride, inverse_rms + row, width,
                              static_cast<float>(kRmsEpsilon));
}

template <int kThreads, typename Gradient, typename Out>
__global__ void mean_of_products(const Gradient* d_out, std::int64_t d_stride, const Out* out, std::int64_t out_stride, float* dot,
                                 std::int64_t width) {
  const std::int64_t row = blockIdx.x;
  float sum = 0;
#pragma unroll 4
  for (std::int64_t i = 8 * threadIdx.x; i < width; i += 8 * kThreads) {
    const Eight<Gradient> d = load_eight(d_out + row * d_stride + i);
    const Eight<Out> y = load_eight(out + row * out_stride + i);
#pragma unroll
    for (int k = 0; k < 8; ++k) sum += to_float(d.at[k]) * to_float(y.at[k]);
  }
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) dot[row] = sum / static_cast<float>(width);
}

}  // namespace

void rms_norm_forward(CudaDevice& device, const RmsNormForward& a) {
  require_operands(a.x.dtype == gradient_of(a.out.dtype) && a.gain.dtype == DType::f32 && a.x[1] % 8 == 0,
                   "rms_norm_forward: x must be bf16 beside bf16, else f32; the gain f32, rows a multiple of 8 wide");
  dispatch_float(a.out.dtype, [&](auto out) {
    using Out = decltype(out);
    dispatch_row_threads(a.x[1], [&](auto threads) {
      launch(device, "rms_norm_forward", normalise<threads.value, Out>, dim3(pieces(a.x[0], 1)), dim3(threads.value), 0,
             a.x.as<const GradientOf<Out>>(), a.x.row_stride, a.gain.as<const float>(), a.out.as<Out>(), a.out.row_stride,
             a.inverse_rms.as<float>(), a.x[1]);
    });
  });
}

void rms_norm_backward_dot(CudaDevice& device, const RmsNormBackwardDot& a) {
  require_operands(a.dot.dtype == DType::f32 && a.out[1] % 8 == 0,
                   "rms_norm_backward_dot: dot must be f32, rows a multiple of 8 wide");
  dispatch_float(a.d_out.dtype, [&](auto gradient) {
    dispatch_float(a.out.dtype, [&](auto out) {
      using Gradient = decltype(gradient);
      using Out = decltype(out);
      dispatch_row_threads(a.out[1], [&](auto threads) {
        launch(device, "rms_norm_backward_dot", mean_of_products<threads.value, Gradient, Out>, dim3(pieces(a.out[0], 1)),
               dim3(threads.value), 0, a.d_out.as<const Gradient>(), a.d_out.row_stride, a.out.as<const Out>(), a.out.row_stride,
               a.dot.as<float>(), a.out[1]);
      });
    });
  });
}

}  // namespace neurogen
