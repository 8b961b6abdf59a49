// Converts 16-bit floating-point numbers on the CPU: exactly to float32, and back to the nearest, ties to even.
#pragma once
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace neurogen {

inline std::uint32_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }
inline float float_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }

struct Bf16 {
  std::uint16_t bits;
};
struct F16 {
  std::uint16_t bits;
};

inline float widen(float x) { return x; }
inline float widen(double x) { return static_cast<float>(x); }
inline float widen(Bf16 x) { return float_of(static_cast<std::uint32_t>(x.bits) << 16); }
inline float widen(F16 x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000) << 16, rest = x.bits & 0x7FFF;
  if (rest >= 0x7C00) return float_of(sign | 0x7F800000 | (rest & 0x3FF) << 13);
  // For subnormals, 2^-24 times the bits as an integer is exact; normals only shift the exponent.
  const float magnitude = rest < 0x400 ? static_cast<float>(rest) * 0x1p-24f : float_of((rest << 13) + (112u << 23));
  return float_of(sign | bits_of(magnitude));
}

inline void narrow(float x, float& to) { to = x; }
inline void narrow(float x, double& to) { to = x; }
inline void narrow(float x, Bf16& to) {
  const std::uint32_t bits = bits_of(x);
  const bool nan = (bits & 0x7FFFFFFF) > 0x7F800000;
  to.bits = static_cast<std::uint16_t>(nan ? bits >> 16 | 0x40 : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
inline void narrow(float x, F16& to) {
  const std::uint32_t bits = bits_of(x), magnitude = bits & 0x7FFFFFFF;
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
  std::uint32_t rounded;
  if (magnitude > 0x7F800000) rounded = 0x7E00;                                                    // NaN
  else if (magnitude >= 0x477FF000) rounded = 0x7C00;                                              // 65520 and above: infinity
  else if (magnitude < 0x38800000) rounded = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);  // subnormal: steps of 2^-24
  else rounded = (magnitude - (112u << 23) + 0xFFF + (magnitude >> 13 & 1)) >> 13;
  to.bits = static_cast<std::uint16_t>(sign | rounded);
}

// Rounds up or down at random, in proportion to the distances: exact on average. `random` is below 2^16. The bits are those of a
// GPU (stochastic_rounding.cuh).
inline void narrow_at_random(float x, std::uint32_t random, Bf16& to) {
  to.bits = static_cast<std::uint16_t>((bits_of(x) + (std::isfinite(x) ? random : 0)) >> 16);
}
inline void narrow_at_random(float x, std::uint32_t random, F16& to) {
  if (!std::isfinite(x)) return narrow(x, to);
  const float magnitude = std::abs(x);
  const float cut = magnitude < 0x1p-14f ? std::trunc((magnitude + static_cast<float>(random) * 0x1p-40f) * 0x1p24f) * 0x1p-24f
                                         : float_of((bits_of(magnitude) + (random >> 3)) & ~0x1FFFu);
  narrow(std::copysign(std::min(cut, 65504.0f), x), to);
}

}  // namespace neurogen
