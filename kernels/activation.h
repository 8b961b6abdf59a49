// The hidden layer of a block, u = up + up_bias and g = gate + gate_bias:
//   gelu_tanh   out = u/2 (1 + tanh(sqrt(2/pi) (u + 0.044715 u^3)))     (Hendrycks & Gimpel 2016, arXiv:1606.08415)
//   silu_gated  out = silu(g) u, silu(x) = x sigma(x)                   (Shazeer 2020, arXiv:2002.05202)
//   relu2       out = max(0, u)^2                                       (So et al. 2021, arXiv:2109.08668)
// `up` and `gate` stay as the products left them: the backward pass computes u and g again, and `out` too, which the product for
// the next matrix' gradient reads. All of it in place, so that it needs no memory but d_out.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"
#include "kernels/base/row_parts.h"

namespace neurogen {

enum class Activation { gelu_tanh, silu_gated, relu2 };

// On a GPU matrices have the type of products and vectors f32, I is a multiple of 8; on a CPU all types are equal.
struct ActivationForward {
  Activation activation = Activation::relu2;
  TensorView up;                  // [N, I]
  TensorView gate;                // [N, I]; empty unless gated
  TensorView up_bias, gate_bias;  // [I], or empty
  TensorView out;                 // out [N, I]; may be up
};

struct ActivationBackward {
  Activation activation = Activation::relu2;
  TensorView up;                      // [N, I] in: up; out: the forward pass' out
  TensorView gate;                    // [N, I] in: gate; out: its gradient
  TensorView up_bias, gate_bias;      // as in the forward pass
  TensorView d_out;                   // [N, I] in: gradient of out; out: of up
  TensorView d_up_bias, d_gate_bias;  // out [I], or empty
  TensorView sums;                    // scratch [row_parts(N), 2 I], of the biases' type; empty without them
};

void activation_forward(CpuDevice& device, const ActivationForward& arguments);
void activation_backward(CpuDevice& device, const ActivationBackward& arguments);
void activation_forward(CudaDevice& device, const ActivationForward& arguments);
void activation_backward(CudaDevice& device, const ActivationBackward& arguments);

}  // namespace neurogen
