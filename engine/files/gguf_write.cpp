#include <fmt/format.h>

#include <algorithm>

#include "arena/error.h"
#include "engine/files/gguf.h"
#include "engine/files/gguf_format.h"

namespace neurogen {
namespace {

constexpr std::int64_t kElementsAtOnce = 1 << 20;  // elements fetched at a time

class Header {
 public:
  template <typename Number>
  void number(Number value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(std::string_view text) {
    number<std::uint64_t>(text.size());
    bytes_ += text;
  }
  // A value with its type's number before it.
  void value(std::uint32_t v) { typed(4, v); }
  void value(std::int32_t v) { typed(5, v); }
  void value(float v) { typed(6, v); }
  void value(bool v) { typed(7, v); }
  void value(const std::string& v) {
    number<std::uint32_t>(8);
    text(v);
  }
  void value(const std::vector<std::string>& list) {
    begin_list(8, list.size());
    for (const std::string& v : list) text(v);
  }
  void value(const std::vector<std::int32_t>& list) { numbers(5, list); }
  void value(const std::vector<float>& list) { numbers(6, list); }
  const std::string& bytes() const { return bytes_; }

 private:
  template <typename Number>
  void typed(std::uint32_t type, Number value) {
    number(type);
    number(value);
  }
  void begin_list(std::uint32_t type, std::size_t count) {
    number<std::uint32_t>(9);
    number(type);
    number<std::uint64_t>(count);
  }
  template <typename Number>
  void numbers(std::uint32_t type, const std::vector<Number>& list) {
    begin_list(type, list.size());
    for (const Number v : list) number(v);
  }

  std::string bytes_;
};

std::int64_t elements_of(const GgufTensor& tensor) {
  std::int64_t n = 1;
  for (const std::int64_t extent : tensor.shape) n *= extent;
  return n;
}

Bytes padded(Bytes bytes) { return (bytes + kGgufDefaultAlignment - 1) / kGgufDefaultAlignment * kGgufDefaultAlignment; }

std::string header_of(const GgufMetadata& metadata, std::span<const GgufTensor> tensors) {
  Header header;
  header.number<std::uint64_t>(tensors.size());
  header.number<std::uint64_t>(metadata.size());
  for (const auto& [key, value] : metadata) {
    header.text(key);
    std::visit([&](const auto& v) { header.value(v); }, value);
  }
  Bytes offset = 0;
  for (const GgufTensor& tensor : tensors) {
    header.text(tensor.name);
    header.number<std::uint32_t>(static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto extent = tensor.shape.rbegin(); extent != tensor.shape.rend(); ++extent)
      header.number<std::uint64_t>(static_cast<std::uint64_t>(*extent));
    header.number(kGgmlTypes[static_cast<std::size_t>(tensor.encoding)]);
    header.number<std::uint64_t>(offset);
    offset = add(offset, padded(size_of(tensor.encoding, elements_of(tensor))));
  }
  return header.bytes();
}

}  // namespace

std::string ggml_type_name(std::uint32_t type) {
  constexpr std::array<const char*, 41> kNames = {
      "F32",   "F16",    "Q4_0",  "Q4_1", "",     "",        "Q5_0",   "Q5_1",    "Q8_0",  "Q8_1",   "Q2_K",
      "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S",
      "IQ2_S", "IQ4_XS", "I8",    "I16",  "I32",  "I64",     "F64",    "IQ1_M",   "BF16",  "",       "",
      "",      "TQ1_0",  "TQ2_0", "",     "",     "",        "MXFP4",  ""};
  const bool known = type < kNames.size() && *kNames[type] != '\0';
  return known ? kNames[type] : std::to_string(type);
}

bool write_gguf(const std::string& path, const GgufMetadata& metadata, std::span<const GgufTensor> tensors, Existing existing) {
  AtomicFile file(path);
  std::string start(kGgufMagic);
  start.append(reinterpret_cast<const char*>(&kGgufVersion), sizeof kGgufVersion);
  start += header_of(metadata, tensors);
  start.resize(padded(start.size()));
  file.write(start);
  std::vector<float> piece;
  std::vector<std::byte> encoded;
  for (const GgufTensor& tensor : tensors) {
    const std::int64_t n = elements_of(tensor);
    for (std::int64_t begin = 0; begin < n; begin += kElementsAtOnce) {
      piece.resize(static_cast<std::size_t>(std::min(kElementsAtOnce, n - begin)));
      tensor.read(begin, piece);
      encoded.resize(size_of(tensor.encoding, static_cast<std::int64_t>(piece.size())));
      if (!encode(tensor.encoding, piece, encoded)) {
        throw Error(fmt::format("{} cannot be written: {} holds a number that is infinite in {}: use another type", path,
                                tensor.name, name_of(tensor.encoding)));
      }
      file.write(encoded.data(), encoded.size());
    }
    const Bytes bytes = size_of(tensor.encoding, n);
    file.write(std::string(padded(bytes) - bytes, '\0'));
  }
  return file.commit(existing);
}

}  // namespace neurogen
