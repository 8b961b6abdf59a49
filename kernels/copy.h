// Moving and clearing whole tensors.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/device.h"
#include "kernels/several.h"

namespace neurogen {

// Equal type and element count, both contiguous, not overlapping.
void copy(CpuDevice& device, const TensorView& from, const TensorView& to);
void copy(CudaDevice& device, const TensorView& from, const TensorView& to);
// All bytes of a contiguous tensor to zero.
void clear(CpuDevice& device, const TensorView& to);
void clear(CudaDevice& device, const TensorView& to);
// The same of several tensors, of whole 16 bytes each.
void clear(CpuDevice& device, const Several<TensorView>& all);
void clear(CudaDevice& device, const Several<TensorView>& all);

}  // namespace neurogen
