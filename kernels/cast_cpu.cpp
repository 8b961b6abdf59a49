#include <cstring>

#include "arena/error.h"
#include "kernels/base/half.h"
#include "kernels/cast.h"

namespace neurogen {
namespace {

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
    case DType::f32:
      return rows(float{});
    case DType::f64:
      return rows(double{});
    case DType::bf16:
      return rows(Bf16{});
    case DType::f16:
      return rows(F16{});
    default:
      throw Error(std::string("cannot cast to ") + name_of(to.dtype), Error::kRunTime);
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
    case DType::f32:
      return cast_to<float>(device, from, to);
    case DType::f64:
      return cast_to<double>(device, from, to);
    case DType::bf16:
      return cast_to<Bf16>(device, from, to);
    case DType::f16:
      return cast_to<F16>(device, from, to);
    default:
      throw Error(std::string("cannot cast from ") + name_of(from.dtype), Error::kRunTime);
  }
}

}  // namespace neurogen
