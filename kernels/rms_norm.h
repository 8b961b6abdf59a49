// Root-mean-square norm over the last dimension (Zhang & Sennrich 2019): out = x / sqrt(mean(x^2) + 1e-5) * gain.
//
// The backward pass has two parts, so that it can be tiled by columns. With x^ = x / rms and dot = mean_O(d_out * out) (out is x^
// gain):
//   d_gain = sum over tokens of d_out x^      d_x = (gain d_out - x^ dot) / rms
// The first part is here; the second is fused into the operation that produced x (microcircuit.h, attention.h).
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"

namespace neurogen {

inline constexpr double kRmsEpsilon = 1e-5;

struct RmsNormForward {
  TensorView x;            // [N, O], on a GPU f32, or bf16 beside bf16
  TensorView gain;         // [O]
  TensorView out;          // out [N, O]; may be x
  TensorView inverse_rms;  // out [N]
};

struct RmsNormBackwardDot {
  TensorView d_out;  // [N, O]
  TensorView out;    // [N, O]
  TensorView dot;    // out [N]: mean over O of d_out * out
};

void rms_norm_forward(CpuDevice& device, const RmsNormForward& arguments);
void rms_norm_backward_dot(CpuDevice& device, const RmsNormBackwardDot& arguments);
void rms_norm_forward(CudaDevice& device, const RmsNormForward& arguments);
void rms_norm_backward_dot(CudaDevice& device, const RmsNormBackwardDot& arguments);

}  // namespace neurogen
