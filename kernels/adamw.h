// AdamW, decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101), betas 0.9 and 0.98, eps 1e-8:
//   g = gradient * clip    m = b1 m + (1-b1) g    v = b2 v + (1-b2) g^2
//   p = p (1 - lr decay) - lr (m / (1-b1^n)) / (sqrt(v / (1-b2^n)) + eps)
#pragma once
#include "arena/tensor_view.h"
#include "kernels/device.h"
#include "kernels/several.h"
#include "kernels/step_control.h"

namespace neurogen {

inline constexpr double kAdamBeta1 = 0.9, kAdamBeta2 = 0.98, kAdamEpsilon = 1e-8;

// n is the number of this update, from 1: the step's, minus those that a loss scale skipped (loss_scale.h). The rate is
// control.learning_rate.
struct AdamW {
  TensorView control;  // StepControl
  TensorView norm;     // [2]: norm, clip factor (gradient_norm.h)
  struct Update {
    TensorView gradient;         // [...]
    TensorView parameter, m, v;  // [...] updated
    double decay = 0;
    TensorView low{};  // [...] in 16 bits, the same type in all updates: a copy of the parameter for products; may be empty
  };
  Several<Update> updates;
};

// Updates only the rows that a batch touched; the others keep weight, moments and count. n is the row's own count. The rate is
// control.embedding_learning_rate; no decay.
struct AdamWRows {
  TensorView control, norm;
  TensorView rows, count;      // [U] i32, [1] i32 (embedding.h)
  TensorView d_rows;           // [U, E]
  TensorView parameter, m, v;  // [V, E]
  TensorView steps;            // [V] i32: number of updates of each row so far
};

void adamw(CpuDevice& device, const AdamW& arguments);
void adamw_rows(CpuDevice& device, const AdamWRows& arguments);
void adamw(CudaDevice& device, const AdamW& arguments);
void adamw_rows(CudaDevice& device, const AdamWRows& arguments);

}  // namespace neurogen
