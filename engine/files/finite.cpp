#include "engine/files/finite.h"

#include <cstdint>
#include <cstring>

namespace neurogen {
namespace {

// Whether no number has an exponent of all ones, which marks infinities and NaN.
template <typename Word>
bool no_exponent_of_ones(std::span<const std::byte> data, Word ones) {
  Word found = 0;  // as wide as the words, so that the loop vectorizes
  for (std::size_t at = 0; at < data.size(); at += sizeof(Word)) {
    Word word;
    std::memcpy(&word, data.data() + at, sizeof word);
    found |= static_cast<Word>((word & ones) == ones);
  }
  return found == 0;
}

}  // namespace

bool all_finite(DType type, std::span<const std::byte> data) {
  switch (type) {
    case DType::f32:
      return no_exponent_of_ones<std::uint32_t>(data, 0x7F80'0000);
    case DType::f64:
      return no_exponent_of_ones<std::uint64_t>(data, 0x7FF0'0000'0000'0000);
    case DType::bf16:
      return no_exponent_of_ones<std::uint16_t>(data, 0x7F80);
    case DType::f16:
      return no_exponent_of_ones<std::uint16_t>(data, 0x7C00);
    default:
      return true;
  }
}

}  // namespace neurogen
