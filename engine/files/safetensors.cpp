#include "engine/files/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "arena/error.h"
#include "engine/files/json.h"
#include "engine/files/load.h"
#include "engine/files/safetensors_header.h"

namespace neurogen {
namespace {

using nlohmann::json;

constexpr int kHeaderLevels = 3;  // file, tensor, shape or offsets

double from_half(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double sign = bits >> 15 ? -1 : 1;
  if (exponent == 31) return fraction ? std::numeric_limits<double>::quiet_NaN() : sign * HUGE_VAL;
  return sign * (exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25));
}

float from_bfloat(std::uint16_t bits) {
  const std::uint32_t wide = std::uint32_t{bits} << 16;
  return load<float>(reinterpret_cast<const std::byte*>(&wide));
}

// Reads one element of a floating-point type.
double floating(DType type, const std::byte* at) {
  switch (type) {
    case DType::f64:
      return load<double>(at);
    case DType::f32:
      return load<float>(at);
    case DType::bf16:
      return from_bfloat(load<std::uint16_t>(at));
    default:
      return from_half(load<std::uint16_t>(at));
  }
}

std::int64_t integer(DType type, const std::byte* at) {
  switch (type) {
    case DType::i64:
      return load<std::int64_t>(at);
    case DType::i32:
      return load<std::int32_t>(at);
    case DType::u16:
      return load<std::uint16_t>(at);
    default:
      return load<std::uint8_t>(at);
  }
}

void check_readable(const Safetensors::Tensor& tensor, std::size_t expected, bool expect_floating, const std::string& path) {
  if (is_floating(tensor.dtype) != expect_floating) {
    throw Error(fmt::format("{}: tensor {} is {}, but {} numbers are needed", path, tensor.name, name_of(tensor.dtype),
                            expect_floating ? "floating-point" : "whole"));
  }
  if (static_cast<std::size_t>(tensor.elements()) != expected) {
    throw Error(fmt::format("{}: tensor {} {} has {} elements, but {} are needed", path, tensor.name, to_string(tensor.shape),
                            tensor.elements(), expected));
  }
}

template <typename Real>
void read_floating(const Safetensors::Tensor& tensor, std::span<Real> out, const std::string& path) {
  check_readable(tensor, out.size(), true, path);
  const Bytes step = size_of(tensor.dtype);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<Real>(floating(tensor.dtype, tensor.data.data() + i * step));
}

// Parses one tensor's entry in the header; `data` is everything after the header.
Safetensors::Tensor parse_tensor(const std::string& name, const json& entry, std::span<const std::byte> data,
                                 const std::string& path) {
  const auto wrong = [&](std::string_view what) { return Error(fmt::format("{}: tensor {} {}", path, name, what)); };
  const auto is_list = [](const json& list) {
    return list.is_array() && std::all_of(list.begin(), list.end(), [](const json& x) { return x.is_number_unsigned(); });
  };
  if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets")) {
    throw wrong("is not described by dtype, shape and data_offsets: the file is damaged");
  }
  const json &dtype = entry["dtype"], &shape = entry["shape"], &offsets = entry["data_offsets"];
  Safetensors::Tensor tensor;
  tensor.name = name;
  const auto type = std::find_if(kSafetensorsTypes.begin(), kSafetensorsTypes.end(),
                                 [&](const auto& known) { return dtype.is_string() && dtype == known.first; });
  if (type == kSafetensorsTypes.end()) {
    throw wrong(fmt::format("has the type {}: only F64, F32, BF16, F16, I64, I32, U16, U8 and BOOL are read", dtype.dump()));
  }
  tensor.dtype = type->second;
  if (!is_list(shape) || !is_list(offsets) || offsets.size() != 2) {
    throw wrong("has a shape or offsets that are not whole numbers from 0: the file is damaged");
  }
  for (const json& extent : shape) {
    if (extent.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      throw wrong("has a shape that does not fit 64 bits: the file is damaged");
    }
    tensor.shape.push_back(extent.get<std::int64_t>());
  }
  const auto begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
  if (begin > end || end > data.size()) throw wrong("is outside the file: it is cut short or damaged");
  Bytes bytes = 0;
  try {
    bytes = size_of(tensor.dtype, tensor.shape);
  } catch (const Error&) {
    throw wrong("has a shape that does not fit 64 bits: the file is damaged");
  }
  if (bytes != end - begin) {
    throw wrong(fmt::format("has {} bytes, but its shape and type need {}: the file is damaged", end - begin, bytes));
  }
  tensor.data = data.subspan(begin, end - begin);
  return tensor;
}

}  // namespace

bool is_floating(DType type) { return type == DType::f64 || type == DType::f32 || type == DType::bf16 || type == DType::f16; }

std::int64_t FileTensor::elements() const { return static_cast<std::int64_t>(data.size() / size_of(dtype)); }

double FileTensor::real(std::int64_t index) const {
  return floating(dtype, data.data() + static_cast<std::size_t>(index) * size_of(dtype));
}

std::int64_t FileTensor::integer(std::int64_t index) const {
  return neurogen::integer(dtype, data.data() + static_cast<std::size_t>(index) * size_of(dtype));
}

Safetensors::Safetensors(const std::string& path) : path_(path), file_(path) {
  const std::span<const std::byte> bytes = file_.bytes();
  const std::uint64_t length = bytes.size() < 8 ? 0 : load<std::uint64_t>(bytes.data());
  if (length < 2 || length > kMaxSafetensorsHeader || length > bytes.size() - 8 || bytes[8] != std::byte{'{'}) {
    throw Error(fmt::format("{} is not a safetensors file or is cut short: its header's length does not fit it", path));
  }
  const json header = parse_json(file_.text().substr(8, length), kHeaderLevels, path);
  if (header.is_discarded())
    throw Error(fmt::format("{} has a header that is not JSON: it is damaged or not a safetensors file", path));
  const std::span<const std::byte> data = bytes.subspan(8 + length);
  for (const auto& [name, entry] : header.items()) {
    if (name != kMetadata) {
      tensors_.push_back(parse_tensor(name, entry, data, path));
      continue;
    }
    for (const auto& [key, value] : entry.items()) {
      if (!entry.is_object() || !value.is_string()) {
        throw Error(fmt::format("{} has metadata that are not an object of strings: it is damaged", path));
      }
      metadata_[key] = value.get<std::string>();
    }
  }
  std::sort(tensors_.begin(), tensors_.end(), [](const Tensor& a, const Tensor& b) {
    return std::pair(a.data.data(), a.data.size()) < std::pair(b.data.data(), b.data.size());
  });
  const std::byte* next = data.data();
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (tensors_[i].data.data() != next) {
      throw Error(fmt::format("{}: tensor {} leaves a gap or overlaps another: the file is damaged", path, tensors_[i].name));
    }
    next += tensors_[i].data.size();
    index_.emplace(tensors_[i].name, i);
  }
  if (next != data.data() + data.size()) {
    throw Error(fmt::format("{} has data after its last tensor: it is damaged", path));
  }
}

const Safetensors::Tensor* Safetensors::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const Safetensors::Tensor& Safetensors::at(std::string_view name) const {
  if (const Tensor* tensor = find(name)) return *tensor;
  throw Error(fmt::format("{} has no tensor {}: is it a file of this architecture?", path_, name));
}

void Safetensors::read_as_float(std::string_view name, std::span<float> out) const { read_floating(at(name), out, path_); }

void Safetensors::read_as_double(std::string_view name, std::span<double> out) const { read_floating(at(name), out, path_); }

void Safetensors::read_as_int32(std::string_view name, std::span<std::int32_t> out) const {
  const Tensor& tensor = at(name);
  check_readable(tensor, out.size(), false, path_);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::int64_t value = tensor.integer(static_cast<std::int64_t>(i));
    out[i] = static_cast<std::int32_t>(value);
    if (out[i] != value) throw Error(fmt::format("{}: tensor {} holds {}, which does not fit 32 bits", path_, name, value));
  }
}

}  // namespace neurogen
