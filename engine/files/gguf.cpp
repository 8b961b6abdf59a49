#include "engine/files/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <filesystem>
#include <fstream>
#include <limits>

#include "arena/error.h"
#include "engine/files/gguf_format.h"
#include "engine/files/load.h"
#include "engine/files/one_line.h"
#include "engine/files/utf8.h"

namespace neurogen {
namespace {

constexpr std::size_t kLongestKey = 65535, kLongestName = 64;  // bytes; the first two are the format's
constexpr std::uint32_t kMostDimensions = 4;
constexpr Bytes kLargestAlignment = 1 << 20;
constexpr std::array<Bytes, 13> kTypeBytes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};  // by Type; 0: text and lists

}  // namespace

// What is left of the header.
class Gguf::Cursor {
 public:
  Cursor(const Gguf& file, std::span<const std::byte> left) : file_(file), left_(left) {}

  const std::byte* at() const { return left_.data(); }
  std::span<const std::byte> left() const { return left_; }
  // The next `count` items of `size` bytes.
  std::span<const std::byte> take(std::uint64_t count, Bytes size = 1) {
    if (count > left_.size() / size) throw file_.damaged("its header is cut short");
    const auto taken = left_.first(count * size);
    left_ = left_.subspan(taken.size());
    return taken;
  }
  template <typename T>
  T number() {
    return load<T>(take(1, sizeof(T)).data());
  }
  std::string_view text() {
    const auto bytes = take(number<std::uint64_t>());
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  // A name: UTF-8, of 1 to `longest` bytes.
  std::string name(const char* what, std::size_t longest) {
    const std::string_view name = text();
    if (name.empty() || name.size() > longest || find_invalid_utf8(name) != name.npos)
      throw file_.damaged(fmt::format("{} has no name of 1 to {} bytes of UTF-8", what, longest));
    return std::string(name);
  }

 private:
  const Gguf& file_;
  std::span<const std::byte> left_;
};

bool is_gguf(const std::string& path) {
  std::error_code unknown;
  if (!std::filesystem::is_regular_file(path, unknown)) return false;
  std::string begin(kGgufMagic.size(), ' ');
  std::ifstream(path, std::ios::binary).read(begin.data(), static_cast<std::streamsize>(begin.size()));
  return begin == kGgufMagic;
}

Error Gguf::damaged(const std::string& what) const { return Error(fmt::format("{} is damaged: {}", path_, what)); }

Gguf::Gguf(const std::string& path) : path_(path), file_(path) {
  const std::span<const std::byte> bytes = file_.bytes();
  if (!file_.text().starts_with(kGgufMagic)) throw Error(path + " is not a GGUF file: it begins otherwise");
  Cursor cursor(*this, bytes.subspan(kGgufMagic.size()));
  const auto version = cursor.number<std::uint32_t>();
  if (version != 2 && version != kGgufVersion) {
    throw Error(fmt::format("{} is GGUF of version {}: only little-endian files of version 2 and 3 are read", path, version));
  }
  const auto tensors = cursor.number<std::uint64_t>(), values = cursor.number<std::uint64_t>();
  for (std::uint64_t i = 0; i < values; ++i) {
    const std::string key = cursor.name("a value", kLongestKey);
    if (!values_.emplace(key, read_value(cursor, key)).second) throw damaged(one_line(key) + " is there twice");
  }
  const Bytes alignment = this->alignment();
  std::vector<std::uint64_t> offsets;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    EncodedTensor tensor = read_tensor(cursor, offsets.emplace_back());
    if (!index_.emplace(tensor.name, tensors_.size()).second) throw damaged(one_line(tensor.name) + " is there twice");
    tensors_.push_back(std::move(tensor));
  }
  const auto header = static_cast<Bytes>(cursor.at() - bytes.data());
  const Bytes begin = (header + alignment - 1) / alignment * alignment;
  place(begin < bytes.size() ? bytes.subspan(begin) : std::span<const std::byte>(), alignment, offsets);
}

Gguf::Value Gguf::read_value(Cursor& cursor, const std::string& key) const {
  const auto read_type = [&] {
    const auto type = cursor.number<std::uint32_t>();
    if (type >= kTypeBytes.size()) throw damaged(fmt::format("{} has the unknown type {}", one_line(key), type));
    return static_cast<Type>(type);
  };
  Value value{read_type(), {}, 1, nullptr, nullptr};
  value.element = value.type;
  if (value.type == Type::list) {
    value.element = read_type();
    value.count = cursor.number<std::uint64_t>();
    if (value.element == Type::list)
      throw Error(fmt::format("{}: {} is a list of lists, which no known key is", path_, one_line(key)));
  }
  value.begin = cursor.at();
  if (value.element == Type::text) {
    for (std::uint64_t i = 0; i < value.count; ++i) cursor.text();
  } else {
    const auto data = cursor.take(value.count, kTypeBytes[static_cast<std::size_t>(value.element)]);
    const auto is_boolean = [](std::byte b) { return b == std::byte{0} || b == std::byte{1}; };
    if (value.element == Type::boolean && !std::all_of(data.begin(), data.end(), is_boolean))
      throw damaged(one_line(key) + " is neither true nor false");
  }
  value.end = cursor.at();
  return value;
}

Bytes Gguf::alignment() const {
  if (!has(kGgufAlignment)) return kGgufDefaultAlignment;
  const std::int64_t bytes = whole(kGgufAlignment);
  if (bytes < 1 || !std::has_single_bit(static_cast<Bytes>(bytes)) || static_cast<Bytes>(bytes) > kLargestAlignment)
    throw damaged(fmt::format("its alignment is {}, not a power of two up to {}", bytes, kLargestAlignment));
  return static_cast<Bytes>(bytes);
}

EncodedTensor Gguf::read_tensor(Cursor& cursor, std::uint64_t& offset) const {
  EncodedTensor tensor;
  tensor.name = cursor.name("a tensor", kLongestName);
  const auto wrong = [&](const std::string& what) { return damaged(fmt::format("tensor {} {}", one_line(tensor.name), what)); };
  const auto dimensions = cursor.number<std::uint32_t>();
  if (dimensions < 1 || dimensions > kMostDimensions) throw wrong(fmt::format("has {} dimensions", dimensions));
  std::uint64_t elements = 1;
  for (std::uint32_t d = 0; d < dimensions; ++d) {  // the innermost comes first
    const auto extent = cursor.number<std::uint64_t>();
    if (extent < 1 || extent > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / elements)
      throw wrong("has a shape that does not fit 64 bits");
    elements *= extent;
    tensor.shape.insert(tensor.shape.begin(), static_cast<std::int64_t>(extent));
  }
  const auto type = cursor.number<std::uint32_t>();
  const auto known = std::find(kGgmlTypes.begin(), kGgmlTypes.end(), type);
  if (known == kGgmlTypes.end()) {
    throw Error(fmt::format("{}: tensor {} has the type {}: only F32, F16, BF16, Q8_0, Q4_0 and Q4_1 are read", path_,
                            one_line(tensor.name), ggml_type_name(type)));
  }
  tensor.encoding = static_cast<Encoding>(known - kGgmlTypes.begin());
  if (tensor.shape.back() % block_elements(tensor.encoding) != 0)
    throw wrong(fmt::format("has rows of {}, which {} has not", tensor.shape.back(), name_of(tensor.encoding)));
  offset = cursor.number<std::uint64_t>();
  return tensor;
}

// Tensors lie in the file's order, each at the next multiple of the alignment.
void Gguf::place(std::span<const std::byte> data, Bytes alignment, const std::vector<std::uint64_t>& offsets) {
  Bytes next = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    EncodedTensor& tensor = tensors_[i];
    const auto wrong = [&](const char* what) { return damaged(fmt::format("tensor {} {}", one_line(tensor.name), what)); };
    std::int64_t elements = 1;
    for (const std::int64_t extent : tensor.shape) elements *= extent;
    if (offsets[i] != next) throw wrong("leaves a gap, overlaps another or is not aligned");
    Bytes bytes = 0;
    try {
      bytes = size_of(tensor.encoding, elements);
    } catch (const Error&) {
      throw wrong("has a shape that does not fit 64 bits");
    }
    if (next > data.size() || bytes > data.size() - next) throw wrong("is outside the file: it is cut short");
    tensor.data = data.subspan(next, bytes);
    next = (next + bytes + alignment - 1) / alignment * alignment;
  }
  if (data.size() > next) throw damaged("it has data after its last tensor");
}

const EncodedTensor* Gguf::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace neurogen
