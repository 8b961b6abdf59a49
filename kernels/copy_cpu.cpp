#include <cstring>

#include "kernels/base/dispatch.h"
#include "kernels/copy.h"

namespace neurogen {
namespace {

constexpr std::int64_t kPiece = 1 << 20;  // bytes that one thread copies at a time

std::int64_t bytes_of(const TensorView& view) { return view.elements() * static_cast<std::int64_t>(size_of(view.dtype)); }

}  // namespace

void copy(CpuDevice& device, const TensorView& from, const TensorView& to) {
  require(from.dtype == to.dtype && from.elements() == to.elements(), "copy: the tensors differ in type or size");
  require(from.contiguous() && to.contiguous(), "copy: tensors must be contiguous");
  parallel_pieces(device, bytes_of(to), kPiece, [&](std::int64_t begin, std::int64_t end, int) {
    std::memcpy(to.as<char>() + begin, from.as<const char>() + begin, static_cast<std::size_t>(end - begin));
  });
}

void clear(CpuDevice& device, const TensorView& to) {
  require(to.contiguous(), "clear: the tensor must be contiguous");
  parallel_pieces(device, bytes_of(to), kPiece, [&](std::int64_t begin, std::int64_t end, int) {
    std::memset(to.as<char>() + begin, 0, static_cast<std::size_t>(end - begin));
  });
}

void clear(CpuDevice& device, const Several<TensorView>& all) {
  for (const TensorView& one : all) clear(device, one);
}

}  // namespace neurogen
