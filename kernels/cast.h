// Changes a tensor's storage type: between f32 and the 16-bit types (rounded to nearest, ties to even), or a plain copy.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"

namespace neurogen {

// Element counts are equal; rows may be strided. f32 to bf16 or f16, bf16 or f16 to f32, f64 to f32, or equal types.
void cast(CpuDevice& device, const TensorView& from, const TensorView& to);
void cast(CudaDevice& device, const TensorView& from, const TensorView& to);

}  // namespace neurogen
