#include "engine/files/encoded_tensor.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "arena/error.h"
#include "engine/files/finite.h"
#include "engine/files/load.h"
#include "kernels/base/half.h"

namespace neurogen {
namespace {

constexpr std::int64_t kBlock = 32;

struct Layout {
  const char* name;
  std::int64_t elements;  // of a block
  Bytes bytes;            // of a block
};
constexpr std::array<Layout, 6> kLayouts = {{{"F32", 1, 4},
                                             {"F16", 1, 2},
                                             {"BF16", 1, 2},
                                             {"Q8_0", kBlock, 34},
                                             {"Q4_0", kBlock, 18},
                                             {"Q4_1", kBlock, 20}}};  // by Encoding

const Layout& layout(Encoding encoding) { return kLayouts[static_cast<std::size_t>(encoding)]; }

float half(const std::byte* at) { return widen(load<F16>(at)); }

// Number i of a block whose 4-bit numbers begin at `at`.
int nibble(const std::byte* at, std::int64_t i) {
  const int both = static_cast<int>(at[i % (kBlock / 2)]);
  return i < kBlock / 2 ? both & 15 : both >> 4;
}

// Number i of the block at `at`.
float number(Encoding encoding, const std::byte* at, std::int64_t i) {
  switch (encoding) {
    case Encoding::f32:
      return load<float>(at);
    case Encoding::f16:
      return half(at);
    case Encoding::bf16:
      return widen(load<Bf16>(at));
    case Encoding::q8_0:
      return half(at) * static_cast<float>(load<std::int8_t>(at + 2 + i));
    case Encoding::q4_0:
      return half(at) * static_cast<float>(nibble(at + 2, i) - 8);
    default:
      return half(at) * static_cast<float>(nibble(at + 4, i)) + half(at + 2);
  }
}

// As ggml: the scale is the largest magnitude / 127, rounded to f16 only after the numbers are divided by it.
void encode_q8_0(std::span<const float> from, std::byte* to) {
  float most = 0;
  for (const float x : from) most = std::max(most, std::abs(x));
  const float scale = most / 127, inverse = scale > 0 ? 1 / scale : 0;
  F16 stored;
  narrow(scale, stored);
  std::memcpy(to, &stored, sizeof stored);
  for (std::size_t i = 0; i < from.size(); ++i) {
    const auto q = static_cast<std::int8_t>(std::clamp(std::round(from[i] * inverse), -127.f, 127.f));
    std::memcpy(to + 2 + i, &q, 1);
  }
}

template <typename Stored>
void encode_plain(std::span<const float> from, std::byte* to) {
  for (const float x : from) {
    Stored stored;
    narrow(x, stored);
    std::memcpy(to, &stored, sizeof stored);
    to += sizeof stored;
  }
}

}  // namespace

const char* name_of(Encoding encoding) { return layout(encoding).name; }

std::int64_t block_elements(Encoding encoding) { return layout(encoding).elements; }

Bytes size_of(Encoding encoding, std::int64_t elements) {
  return multiply(static_cast<Bytes>(elements / layout(encoding).elements), layout(encoding).bytes);
}

std::optional<Encoding> plain_encoding(DType type) {
  if (type == DType::f32) return Encoding::f32;
  if (type == DType::f16) return Encoding::f16;
  if (type == DType::bf16) return Encoding::bf16;
  return std::nullopt;
}

std::int64_t EncodedTensor::elements() const {
  return static_cast<std::int64_t>(data.size() / layout(encoding).bytes) * layout(encoding).elements;
}

void EncodedTensor::read(std::int64_t begin, std::int64_t step, std::span<float> to) const {
  const auto [name, block, bytes] = layout(encoding);
  for (float& x : to) {
    x = number(encoding, data.data() + static_cast<Bytes>(begin / block) * bytes, begin % block);
    begin += step;
  }
}

bool encode(Encoding encoding, std::span<const float> from, std::span<std::byte> to) {
  switch (encoding) {
    case Encoding::f32:
      encode_plain<float>(from, to.data());
      return all_finite(DType::f32, to);
    case Encoding::f16:
      encode_plain<F16>(from, to.data());
      return all_finite(DType::f16, to);
    case Encoding::bf16:
      encode_plain<Bf16>(from, to.data());
      return all_finite(DType::bf16, to);
    default:
      break;
  }
  bool finite = all_finite(DType::f32, std::as_bytes(from));
  const Bytes bytes = layout(encoding).bytes;
  for (std::size_t block = 0; block < from.size() / kBlock; ++block) {
    std::byte* const at = to.data() + block * bytes;
    encode_q8_0(from.subspan(block * kBlock, kBlock), at);
    finite = finite && all_finite(DType::f16, {at, 2});
  }
  return finite;
}

}  // namespace neurogen
