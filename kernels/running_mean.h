// The gradient of a step that takes its batch in several micro-batches: the mean over all counted tokens so far, of which each
// micro-batch has a gradient that is the mean over its own.
//   counted = counted + c    share = c / counted    mean = (1 - share) mean + share value
// After the last micro-batch that is, to rounding, the gradient of the whole batch, also if their counts differ. The first
// micro-batch has a share of 1: what `mean` held before is not read. One without counted tokens has a share of 0, and its values
// are not read.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"

namespace neurogen {

struct RunningMeanShare {
  TensorView total;    // [2] f64: sum of losses, counted tokens c (cross_entropy.h)
  TensorView counted;  // [1] f64, updated: counted tokens of the step; 0 before its first micro-batch
  TensorView share;    // out [1] f64
};

// Tensors are contiguous; on a GPU they have a multiple of 4 elements, of a table in each row.
struct RunningMean {
  TensorView share;  // [1] f64
  TensorView value;  // [...]; on a GPU f32 or bf16
  TensorView mean;   // [...] updated; on a GPU f32
  // Of a table [R, E]: value is [U, E], of the first count[0] rows in `rows` (embedding.h); that of any other row is 0.
  TensorView rows{}, count{};
};

void running_mean_share(CpuDevice& device, const RunningMeanShare& arguments);
void running_mean(CpuDevice& device, const RunningMean& arguments);
void running_mean_share(CudaDevice& device, const RunningMeanShare& arguments);
void running_mean(CudaDevice& device, const RunningMean& arguments);

}  // namespace neurogen
