// A residual sum and the norm that follows it, in one pass over memory:
//   y = x + branch + branch_bias
//   layer norm (Ba, Kiros & Hinton 2016, arXiv:1607.06450):  y^ = (y - mean(y)) inverse, inverse = 1 / sqrt(variance(y) + epsilon)
//   rms norm (Zhang & Sennrich 2019, arXiv:1910.07467):      y^ = y inverse,             inverse = 1 / sqrt(mean(y^2) + epsilon)
//   out = y^ gain + bias
// Without a branch it is the norm alone, of y = x.
//
// Backward, with d_y the gradient that reaches y by other ways, g = d_out gain, and means over a row:
//   d_y += inverse (g - y^ mean(g y^) - mean(g))     the last mean in layer norm alone
//   d_x = d_branch = d_y    d_branch_bias = sum d_y    d_gain = sum d_out y^    d_bias = sum d_out    sums over the N rows
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"
#include "kernels/base/row_parts.h"

namespace neurogen {

enum class Norm { layer, rms };

// On a GPU x, y and their gradients are f32 or bf16; branch, d_branch, out and normed have the type of products; d_out has either;
// the rest is f32. Rows are contiguous, D a multiple of 8. On a CPU all types are equal.
struct ResidualNormForward {
  Norm norm = Norm::rms;
  double epsilon = 1e-5;
  TensorView x;            // [N, D]
  TensorView branch;       // [N, D], or empty
  TensorView branch_bias;  // [D], or empty
  TensorView y;            // out [N, D]; may be x; empty without a branch
  TensorView gain;         // [D]
  TensorView bias;         // [D], or empty
  TensorView out;          // out [N, D]
  TensorView mean;         // out [N]; empty for Norm::rms
  TensorView inverse;      // out [N]
};

struct ResidualNormBackward {
  Norm norm = Norm::rms;
  TensorView y;              // [N, D]
  TensorView mean, inverse;  // as in the forward pass
  TensorView gain, bias;     // likewise
  TensorView d_out;          // [N, D]
  TensorView d_y;            // [N, D] updated, or out if `stored`
  bool stored = false;       // d_y holds nothing yet
  TensorView d_branch;       // out [N, D]: a copy of d_y in the type of products; empty if d_y itself has it
  TensorView normed;         // out [N, D], or empty: the norm's output once more, for products; may be d_out
  TensorView d_gain;         // out [D]
  TensorView d_bias;         // out [D]; empty without a bias
  TensorView d_branch_bias;  // out [D]; empty without one
  TensorView sums;           // scratch [row_parts(N), 3 D], of the gain's type
};

void residual_norm_forward(CpuDevice& device, const ResidualNormForward& arguments);
void residual_norm_backward(CpuDevice& device, const ResidualNormBackward& arguments);
void residual_norm_forward(CudaDevice& device, const ResidualNormForward& arguments);
void residual_norm_backward(CudaDevice& device, const ResidualNormBackward& arguments);

}  // namespace neurogen
