#include <cstring>

#include "arena/error.h"
#include "kernels/cast.h"

namespace neurogen {
namespace {

std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

float float_of(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

struct Bf16 {
  std::uint16_t bits;
};
struct F16 {
  std::uint16_t bits;
};

float widen(float x) { return x; }
float widen(double x) { return static_cast<float>(x); }
float widen(Bf16 x) { return float_of(static_cast<std::uint32_t>(x.bits) << 16); }
float widen(F16 x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x8000) << 16, rest = x.bits & 0x7FFF;
  if (rest >= 0x7C00) return float_of(sign | 0x7F800000 | (rest & 0x3FF) << 13);
  // 2^-24 times the bits as an integer is exact for subnormals; normals only shift the exponent.
  const float magnitude = rest < 0x400 ? static_cast<float>(rest) * 0x1p-24f : float_of((rest << 13) + (112u << 23));
  return float_of(sign | bits_of(magnitude));
}

void narrow(float x, float& to) { to = x; }
void narrow(float x, double& to) { to = x; }
void narrow(float x, Bf16& to) {
  const std::uint32_t bits = bits_of(x);
  const bool nan = (bits & 0x7FFFFFFF) > 0x7F800000;
  to.bits = static_cast<std::uint16_t>(nan ? bits >> 16 | 0x40 : (bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
void narrow(float x, F16& to) {
  const std::uint32_t bits = bits_of(x), magnitude = bits & 0x7FFFFFFF;
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
  std::uint32_t rounded;
  if (magnitude > 0x7F800000) rounded = 0x7E00;          // NaN
  else if (magnitude >= 0x477FF000) rounded = 0x7C00;    // from 65520 on: infinity
  else if (magnitude < 0x38800000) rounded = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);  // subnormal: steps of 2^-24
  else rounded = (magnitude - (112u << 23) + 0xFFF + (magnitude >> 13 & 1)) >> 13;
  to.bits = static_cast<std::uint16_t>(sign | rounded);
}

template <typename From, typename To>
void cast_row(const TensorView& from, const TensorView& to, std::int64_t row) {
  const From* in = from.as<const From>() + row * from.row_stride;
  To* out = to.as<To>() + row * to.row_stride;
  const std::int64_t n = to.row_elements();
  for (std::int64_t i = 0; i < n; ++i) narrow(widen(in[i]), out[i]);
}

template <typename From>
void cast_to(CpuDevice& device, const TensorView& from, const TensorView& to) {
  const auto rows = [&](auto zero) {
    device.parallel(to[0], [&](std::int64_t row, int) { cast_row<From, decltype(zero)>(from, to, row); });
  };
  switch (to.dtype) {
    case DType::f32: return rows(float{});
    case DType::f64: return rows(double{});
    case DType::bf16: return rows(Bf16{});
    case DType::f16: return rows(F16{});
    default: throw Error(std::string("cannot cast to ") + name_of(to.dtype), Error::kRunTime);
  }
}

}  // namespace

void cast(CpuDevice& device, const TensorView& from, const TensorView& to) {
  if (from.dtype == to.dtype) {  // f64 must not pass through float
    const Bytes row = size_of(to.dtype) * static_cast<Bytes>(to.row_elements());
    const Bytes from_step = size_of(to.dtype) * static_cast<Bytes>(from.row_stride);
    const Bytes to_step = size_of(to.dtype) * static_cast<Bytes>(to.row_stride);
    device.parallel(to[0], [&](std::int64_t i, int) {
      std::memcpy(to.as<char>() + static_cast<Bytes>(i) * to_step, from.as<char>() + static_cast<Bytes>(i) * from_step, row);
    });
    return;
  }
  switch (from.dtype) {
    case DType::f32: return cast_to<float>(device, from, to);
    case DType::f64: return cast_to<double>(device, from, to);
    case DType::bf16: return cast_to<Bf16>(device, from, to);
    case DType::f16: return cast_to<F16>(device, from, to);
    default: throw Error(std::string("cannot cast from ") + name_of(from.dtype), Error::kRunTime);
  }
}

}  // namespace neurogen
