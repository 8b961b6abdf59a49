#include <algorithm>

#include "kernels/base/cuda_kernel.cuh"
#include "kernels/loss_scale.h"

namespace neurogen {
namespace {

constexpr int kThreads = 256;

__global__ void begin(const LossScaleState* state, StepControl* control) {
  control->overflow = 0;
  control->loss_scale = ldexpf(1.0f, kFirstLossScale + state->doublings);
  control->decoder_skips = state->decoder_skips;
  control->trunk_skips = state->trunk_skips;
}

template <typename T>
__global__ void check_decoder(const double* total, const T* d_features, std::int64_t fours, StepControl* control) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  bool finite = first > 0 || !logits_overflow(total[0], total[1], control->loss_scale);
  for (std::int64_t i = first; i < fours; i += static_cast<std::int64_t>(gridDim.x) * kThreads) {
    const float4 x = load_four(d_features + 4 * i);
    finite = finite && isfinite(x.x) && isfinite(x.y) && isfinite(x.z) && isfinite(x.w);
  }
  if (!finite) atomicOr(&control->overflow, kDecoderOverflow | kTrunkOverflow);  // integers: the order does not matter
}

__global__ void end(const float* norm, StepControl* control, LossScaleState* state) {
  if (!isfinite(norm[0])) control->overflow |= kTrunkOverflow;
  if (state) *state = after_step(*state, control->overflow);
}

}  // namespace

void loss_scale_begin(CudaDevice& device, const LossScaleBegin& a) {
  launch(device, "loss_scale_begin", begin, dim3(1), dim3(1), 0, a.state.as<const LossScaleState>(), a.control.as<StepControl>());
}

void loss_scale_decoder(CudaDevice& device, const LossScaleDecoder& a) {
  require_operands(!a.d_features || (a.d_features.contiguous() && a.d_features.elements() % 4 == 0),
                   "loss_scale_decoder: the gradient must be contiguous, with a multiple of 4 elements");
  const std::int64_t fours = a.d_features ? a.d_features.elements() / 4 : 0;
  const std::int64_t blocks = std::clamp<std::int64_t>(pieces(fours, kThreads), 1, 8 * device.multiprocessors());
  dispatch_float(a.d_features ? a.d_features.dtype : DType::f32, [&](auto zero) {
    using T = decltype(zero);
    launch(device, "loss_scale_decoder", check_decoder<T>, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0,
           a.total.as<const double>(), a.d_features.as<const T>(), fours, a.control.as<StepControl>());
  });
}

void loss_scale_end(CudaDevice& device, const LossScaleEnd& a) {
  require_operands(a.norm.dtype == DType::f32, "loss_scale_end: the norm must be f32");
  launch(device, "loss_scale_end", end, dim3(1), dim3(1), 0, a.norm.as<const float>(), a.control.as<StepControl>(),
         a.state.as<LossScaleState>());
}

}  // namespace neurogen
