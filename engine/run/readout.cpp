#include "engine/run/readout.h"

#include <algorithm>

#include "arena/error.h"
#include "kernels/base/half.h"

namespace neurogen {

std::span<const float> Readout::rows(TensorId id, std::int64_t begin, std::int64_t count) {
  const TensorView view = program_.view(id);
  const auto n = static_cast<std::size_t>(count * view.row_elements());
  const Bytes size = size_of(view.dtype);
  program_.read(id, raw_.data(), n * size, static_cast<Bytes>(begin * view.row_elements()) * size);
  const auto take = [&](auto element) {
    const auto* from = reinterpret_cast<const decltype(element)*>(raw_.data());
    std::transform(from, from + n, values_.begin(), [](auto x) { return widen(x); });
  };
  switch (view.dtype) {
    case DType::f32:
      take(float{});
      break;
    case DType::f64:
      take(double{});
      break;
    case DType::bf16:
      take(Bf16{});
      break;
    case DType::f16:
      take(F16{});
      break;
    default:
      throw Error("an integer tensor cannot be read as float32");
  }
  return {values_.data(), n};
}

}  // namespace neurogen
