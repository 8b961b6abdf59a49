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

// The softcap of cross_entropy.h, as on the CPU (vector_math.h).
struct Softcap {
  float cap, inverse, twice;  // twice: 2 log2(e) / cap
  __host__ explicit Softcap(double bound)
      : cap(static_cast<float>(bound)), inverse(1 / cap), twice(static_cast<float>(2 * 1.4426950408889634 / bound)) {}
  __device__ float operator()(float x) const { return cap - 2 * cap * reciprocal(1.0f + exp2_of(x * twice)); }
  // One reciprocal serves four: they take as long as exponentials, which bound the passes over logits. The bound of 2^30 keeps the
  // product finite and changes no result; NaN stays NaN.
  __device__ float4 operator()(float4 x) const {
    const auto sum = [&](float z) { return 1.0f + exp2_of(z * twice > 30.0f ? 30.0f : z * twice); };
    const float a = sum(x.x), b = sum(x.y), c = sum(x.z), d = sum(x.w);
    const float all = 2 * cap * reciprocal(a * b * (c * d)), of_ab = all * (c * d), of_cd = all * (a * b);
    return {cap - of_ab * b, cap - of_ab * a, cap - of_cd * d, cap - of_cd * c};
  }
  __device__ float derivative(float capped) const {
    const float part = capped * inverse;
    return 1.0f - part * part;
  }
};
struct Uncapped {
  __device__ float operator()(float x) const { return x; }
  __device__ float4 operator()(float4 x) const { return x; }
  __device__ float derivative(float) const { return 1.0f; }
};
template <typename Body>
void dispatch_softcap(double cap, Body&& body) {
  if (cap > 0) body(Softcap(cap));
  else body(Uncapped());
}

}  // namespace neurogen
