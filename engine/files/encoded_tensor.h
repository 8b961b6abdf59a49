// Tensors of floating-point numbers as files of weights hold them: plain, or in ggml's blocks of 32 numbers that share a scale
// (github.com/ggml-org/ggml, src/ggml-common.h): f16 scale d, in Q4_1 then an f16 minimum m, then 32 whole numbers q.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "arena/tensor_view.h"

namespace neurogen {

enum class Encoding : std::uint8_t {
  f32,
  f16,
  bf16,
  q8_0,  // d q, q from -127 to 127 in 8 bits
  q4_0,  // d (q - 8), q from 0 to 15 in 4 bits: number i of a block is the low half of byte i, number i + 16 its high half
  q4_1,  // d q + m
};

const char* name_of(Encoding encoding);          // "Q8_0"
std::int64_t block_elements(Encoding encoding);  // 32, or 1 of plain numbers
// Bytes of so many numbers, a multiple of block_elements. Throws Error on overflow.
Bytes size_of(Encoding encoding, std::int64_t elements);
// The encoding of a plain type, none for types that are not f32, f16 or bf16.
std::optional<Encoding> plain_encoding(DType type);

// A tensor in a mapped file.
struct EncodedTensor {
  std::string name;
  Encoding encoding = Encoding::f32;
  Shape shape;                      // row-major; rows are whole blocks
  std::span<const std::byte> data;  // mapped; not aligned: copy, do not cast

  std::int64_t elements() const;
  // Sets `to` to the elements begin, begin + step, begin + 2 step, ..., which must exist. Allocates nothing.
  void read(std::int64_t begin, std::int64_t step, std::span<float> to) const;
};

// Encodes numbers, a multiple of block_elements, to the nearest; as f32, f16, bf16 or q8_0. `to` has their bytes. Returns whether
// all that is written is finite: f16 ends at 65,504.
bool encode(Encoding encoding, std::span<const float> from, std::span<std::byte> to);

}  // namespace neurogen
