#include "arena/tensor_view.h"

#include <fmt/format.h>

#include <span>

#include "arena/error.h"

namespace neurogen {
namespace {

std::byte* at(const TensorView& view, std::int64_t element) {
  return view.as<std::byte>() + element * static_cast<std::int64_t>(size_of(view.dtype));
}

void check_range(const char* what, std::int64_t begin, std::int64_t count, std::int64_t extent) {
  if (begin < 0 || count < 0 || begin > extent - count) {
    throw Error(fmt::format("{}: first {}, count {}, but the tensor has {}", what, begin, count, extent));
  }
}

}  // namespace

Bytes size_of(DType type) {
  static constexpr Bytes kSizes[] = {4, 8, 2, 2, 4, 8, 2, 1};
  return kSizes[static_cast<int>(type)];
}

const char* name_of(DType type) {
  static constexpr const char* kNames[] = {"f32", "f64", "bf16", "f16", "i32", "i64", "u16", "u8"};
  return kNames[static_cast<int>(type)];
}

Bytes size_of(DType type, const Shape& shape) {
  Bytes bytes = size_of(type);
  bool empty = false;
  for (const std::int64_t extent : shape) {
    if (extent < 0) throw Error(fmt::format("a tensor of shape {} has a negative extent", to_string(shape)));
    empty = empty || extent == 0;
  }
  if (empty) return 0;
  for (const std::int64_t extent : shape) bytes = multiply(bytes, static_cast<Bytes>(extent));
  return bytes;
}

std::string to_string(const Shape& shape) {
  std::string text;
  for (const std::int64_t extent : shape) text += (text.empty() ? "" : ", ") + std::to_string(extent);
  return "[" + text + "]";
}

Bytes size_of(const TensorView& view) { return size_of(view.dtype) * static_cast<Bytes>(view.elements()); }

TensorView TensorView::rows(std::int64_t begin, std::int64_t count) const {
  if (rank < 1) throw Error("a scalar has no rows: give the tensor a dimension");
  check_range("rows", begin, count, shape[0]);
  TensorView part = *this;
  part.data = at(*this, begin * row_stride);
  part.shape[0] = count;
  return part;
}

TensorView TensorView::columns(std::int64_t begin, std::int64_t count) const {
  if (rank != 2) throw Error(fmt::format("a view of {} dimensions has no columns: it needs two dimensions", rank));
  check_range("columns", begin, count, shape[1]);
  TensorView part = *this;
  part.data = at(*this, begin);
  part.shape[1] = count;
  return part;
}

namespace {

TensorView shaped(void* data, DType dtype, std::span<const std::int64_t> shape) {
  TensorView view{.data = data, .dtype = dtype, .rank = static_cast<int>(shape.size())};
  if (shape.size() > view.shape.size()) {
    throw Error(fmt::format("a tensor of shape {} has too many dimensions: a view has at most four",
                            to_string({shape.begin(), shape.end()})));
  }
  for (std::size_t d = 0; d < shape.size(); ++d) view.shape[d] = shape[d];
  view.row_stride = view.row_elements();
  return view;
}

}  // namespace

// Operations reshape while they run, so this does not allocate a Shape.
TensorView TensorView::reshaped(std::initializer_list<std::int64_t> extents) const {
  const TensorView view = shaped(data, dtype, extents);
  if (!contiguous() || view.elements() != elements()) {
    throw Error(fmt::format("a view of {} elements{} cannot take the shape {}", elements(), contiguous() ? "" : " in strided rows",
                            to_string(Shape(extents))));
  }
  return view;
}

TensorView make_view(void* data, DType dtype, const Shape& shape) {
  size_of(dtype, shape);  // refuses sizes that overflow
  return shaped(data, dtype, shape);
}

}  // namespace neurogen
