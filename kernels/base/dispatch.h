// Helpers of the CPU operations: from a view's run-time element type to a template, checks with messages, and work cut into pieces.
#pragma once
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>

#include "arena/error.h"
#include "arena/tensor_view.h"
#include "kernels/base/device.h"

namespace neurogen {

// Calls body(Real{}) with the C++ type that `type` names.
template <typename Body>
void dispatch_real(DType type, Body&& body) {
  switch (type) {
    case DType::f32:
      return body(float{});
    case DType::f64:
      return body(double{});
    default:
      throw Error(fmt::format("{} is not supported on the CPU: use f32", name_of(type)));
  }
}

// Checks a kernel's operands. `sentence` is the whole message.
inline void require(bool condition, const char* sentence) {
  if (!condition) throw Error(sentence);
}

// Requires that all operands that are present have type `type`.
inline void require_type(const char* operation, DType type, std::initializer_list<TensorView> views) {
  for (const TensorView& view : views)
    if (view && view.dtype != type)
      throw Error(fmt::format("{}: operands of {} and {} in one call", operation, name_of(type), name_of(view.dtype)));
}

// Calls body(begin, end, thread) for [0, n) in pieces of `piece`.
template <typename Body>
void parallel_pieces(CpuDevice& device, std::int64_t n, std::int64_t piece, Body&& body) {
  device.parallel((n + piece - 1) / piece,
                  [&](std::int64_t i, int thread) { body(i * piece, std::min(n, (i + 1) * piece), thread); });
}

}  // namespace neurogen
