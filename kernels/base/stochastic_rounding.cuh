// Rounds up or down at random, in proportion to the distances: exact on average. `random` is below 2^16.
#pragma once
#include "kernels/base/cuda_kernel.cuh"

namespace neurogen {

__device__ inline float rounded(float, float x, std::uint32_t) { return x; }

// The upper half of a float32 is a bf16: adding a random part of its last place and truncating is right on average.
__device__ inline __nv_bfloat16 rounded(__nv_bfloat16, float x, std::uint32_t random) {
  return __ushort_as_bfloat16(static_cast<unsigned short>((__float_as_uint(x) + (isfinite(x) ? random : 0)) >> 16));
}

// f16 has 10 bits of mantissa, and steps of 2^-24 below 2^-14.
__device__ inline __half rounded(__half, float x, std::uint32_t random) {
  const float magnitude = fabsf(x);
  const float up = magnitude < 0x1p-14f ? magnitude + static_cast<float>(random) * 0x1p-40f
                                        : __uint_as_float(__float_as_uint(magnitude) + (random >> 3));
  return __float2half_rz(copysignf(isfinite(x) ? up : magnitude, x));
}

}  // namespace neurogen
