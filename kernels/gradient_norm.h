// The norm of all gradients together, and the factor that clips it (Pascanu, Mikolov & Bengio 2013):
//   factor = min(1, limit / (norm + 1e-6)) / loss scale, norm without that scale
// Sums are taken in float64 over chunks of fixed size, so that the bits depend only on the shapes.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"
#include "kernels/base/several.h"
#include "kernels/base/step_control.h"

namespace neurogen {

inline constexpr std::int64_t kNormChunk = 16384;  // elements per partial sum

std::int64_t norm_partials(std::int64_t elements);  // number of partial sums that a tensor needs

struct SumOfSquares {
  struct Of {
    TensorView x;     // contiguous
    TensorView rows;  // [1] i32 or empty: only the first rows[0] rows count (the sums of the rest become 0)
  };
  Several<Of> tensors;
  TensorView partials;  // out f64: norm_partials(elements of x) values for each tensor in turn
};

struct ClipFactor {
  TensorView partials;  // [P] f64, of all tensors
  double limit = 1;
  TensorView norm;       // out [2] f32 or f64: norm, factor
  TensorView control{};  // StepControl: the gradients' loss scale; empty: 1
};

void sum_of_squares(CpuDevice& device, const SumOfSquares& arguments);
void clip_factor(CpuDevice& device, const ClipFactor& arguments);
void sum_of_squares(CudaDevice& device, const SumOfSquares& arguments);
void clip_factor(CudaDevice& device, const ClipFactor& arguments);

}  // namespace neurogen
