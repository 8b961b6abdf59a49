// Products of factors that are rounded to 8-bit floats (E4M3 of Micikevicius et al. 2022, arXiv:2209.05433: 4 bits of exponent, 3
// of mantissa, at most 448), for which GPUs have twice the rate of 16 bits. Of a sum of k products with independent rounding errors
// about 0.037 / sqrt(k) of the factors' norms remains, so they serve long sums.
//   c = round(16 a) round(256 b)^T / 4096
// Fixed powers of two scale a norm's outputs (up to 28) and a decoder's weights (up to 1.75) into the type's range; what is larger
// becomes 448.
#pragma once
#include "arena/tensor_view.h"
#include "kernels/base/device.h"

namespace neurogen {

inline constexpr double kFp8ScaleA = 16, kFp8ScaleB = 256;

struct Fp8Matmul {
  TensorView a, b;       // [m, k], [n, k]; on a GPU bf16
  TensorView c;          // out [m, n], rows may be strided; on a GPU bf16
  TensorView a8, b8;     // scratch [m, k], [rows, k] u8: all of a, and as many rows of b as are rounded at a time
  TensorView workspace;  // scratch [bytes] u8 for a GPU's matrix library; may be empty
};

// On a GPU k, n and `rows` are multiples of 16, and rows of all begin at multiples of 16 bytes. A GPU below this compute capability
// has no such products and multiplies a and b as they are.
inline constexpr int kFp8Capability = 89;
void fp8_matmul(CpuDevice& device, const Fp8Matmul& arguments);
void fp8_matmul(CudaDevice& device, const Fp8Matmul& arguments);

}  // namespace neurogen
