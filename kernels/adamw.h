// AdamW, decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101), betas 0.9 and 0.98, eps 1e-8:
//   g = gradient * clip    m = b1 m + (1-b1) g    v = b2 v + (1-b2) g^2
//   p = p (1 - lr decay) - lr (m / (1-b1^n)) / (sqrt(v / (1-b2^n)) + eps)
// Parameters may be stored in 16 bits and moments in 8 (base/eight_bits.h). All is computed in float32, and what is stored in fewer
// bits is rounded up or down at random, so that updates far below a last bit are not lost on average.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"
#include "kernels/base/several.h"
#include "kernels/base/step_control.h"

namespace neurogen {

inline constexpr double kAdamBeta1 = 0.9, kAdamBeta2 = 0.98, kAdamEpsilon = 1e-8;

// n is the number of this update, from 1: the step's, minus those that a loss scale skipped (loss_scale.h). The rate is
// control.learning_rate.
struct AdamW {
  TensorView control;  // StepControl
  TensorView norm;     // [2]: norm, clip factor (gradient_norm.h)
  struct Update {
    TensorView gradient;         // [...]
    TensorView parameter, m, v;  // [...] updated; m and v may be u8, the parameter bf16 or f16
    double decay = 0;
    TensorView low{};  // [...] in 16 bits, the same type in all updates: a copy of the parameter for products; may be empty
    TensorView m_scale{}, v_scale{};  // of u8 moments: [moment_blocks(elements)] updated
    // Seeds what is drawn for roundings: word i mod 4 of philox(draws, step, i / 4) is element i's, 16 bits of it the parameter's,
    // then 8 each for m and v.
    std::uint64_t draws = 0;
  };
  Several<Update> updates;
};

std::int64_t moment_blocks(std::int64_t elements);

void adamw(CpuDevice& device, const AdamW& arguments);
void adamw(CudaDevice& device, const AdamW& arguments);

}  // namespace neurogen
