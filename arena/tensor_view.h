// A typed view of memory that it does not own: address, type, shape. Rows are contiguous but may be strided.
#pragma once
#include <array>
#include <cassert>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "arena/bytes.h"

namespace neurogen {

enum class DType : std::uint8_t { f32, f64, bf16, f16, i32, i64, u16, u8 };

Bytes size_of(DType type);        // bytes of one element
const char* name_of(DType type);  // "f32"

using Shape = std::vector<std::int64_t>;
Bytes size_of(DType type, const Shape& shape);  // exact bytes of a whole tensor; throws Error on overflow or a negative extent
std::string to_string(const Shape& shape);      // "[32000, 1024]"

// Up to four dimensions, row-major; the innermost is contiguous. The first dimension may be strided (`row_stride` elements from one
// index to the next), so that a tile of columns or a slice of rows is a view too. Copies are cheap; the memory must outlive the
// view. An absent optional operand is a view with null `data`.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::f32;
  int rank = 0;
  std::array<std::int64_t, 4> shape{};
  std::int64_t row_stride = 0;

  explicit operator bool() const { return data != nullptr; }
  std::int64_t operator[](int dimension) const { return shape[static_cast<std::size_t>(dimension)]; }
  std::int64_t elements() const {
    std::int64_t n = 1;
    for (int d = 0; d < rank; ++d) n *= shape[static_cast<std::size_t>(d)];
    return n;
  }
  // Elements per index of the first dimension: the product of the other extents.
  std::int64_t row_elements() const { return rank == 0 || shape[0] == 0 ? 0 : elements() / shape[0]; }
  bool contiguous() const { return row_stride == row_elements() || elements() == 0; }

  // Unchecked: the caller vouches for the element type.
  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
  // First-dimension indices [begin, begin + count).
  TensorView rows(std::int64_t begin, std::int64_t count) const;
  // Columns [begin, begin + count) of a [rows, columns] view.
  TensorView columns(std::int64_t begin, std::int64_t count) const;
  // The same contiguous memory with another shape of as many elements.
  TensorView reshaped(std::initializer_list<std::int64_t> extents) const;
};

Bytes size_of(const TensorView& view);  // bytes of its elements, without the gaps between strided rows

TensorView make_view(void* data, DType dtype, const Shape& shape);

}  // namespace neurogen
