// Copies and clears whole tensors.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"
#include "kernels/base/several.h"

namespace neurogen {

// Types and element counts are equal, both contiguous, not overlapping.
void copy(CpuDevice& device, const TensorView& from, const TensorView& to);
void copy(CudaDevice& device, const TensorView& from, const TensorView& to);
// Sets all bytes of a contiguous tensor to zero.
void clear(CpuDevice& device, const TensorView& to);
void clear(CudaDevice& device, const TensorView& to);
// The same for several tensors, each a multiple of 16 bytes.
void clear(CpuDevice& device, const Several<TensorView>& all);
void clear(CudaDevice& device, const Several<TensorView>& all);

}  // namespace neurogen
