// Functions of one number in one or two instructions of the special function unit: accurate to about two units in the last place;
// results below the smallest normal number are 0.
#pragma once
#include <cuda_runtime.h>

namespace neurogen {

__device__ inline float exp2_of(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
inline constexpr float kLog2E = 1.44269504f;
__device__ inline float exp_of(float x) { return exp2_of(x * kLog2E); }
__device__ inline float reciprocal(float x) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}
__device__ inline float sigmoid_of(float x) { return reciprocal(1.0f + exp_of(-x)); }

}  // namespace neurogen
