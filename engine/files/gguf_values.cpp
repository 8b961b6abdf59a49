// Typed access to a GGUF file's metadata.
#include <fmt/format.h>

#include "arena/error.h"
#include "engine/files/gguf.h"
#include "engine/files/load.h"

namespace neurogen {
namespace {

// Appends `count` numbers of type T.
template <typename T, typename Number>
void append(const std::byte* at, std::uint64_t count, std::vector<Number>& to) {
  for (std::uint64_t i = 0; i < count; ++i) to.push_back(static_cast<Number>(load<T>(at + i * sizeof(T))));
}

}  // namespace

const Gguf::Value& Gguf::value(std::string_view key, bool list, bool (*is_kind)(Type), const char* kind) const {
  const auto found = values_.find(key);
  if (found == values_.end()) throw Error(fmt::format("{} has no {}: use a complete file", path_, key));
  const Value& value = found->second;
  if ((value.type == Type::list) == list && is_kind(value.element)) return value;
  throw damaged(fmt::format("{} is not {}{}", key, list ? "a list of " : "one of ", kind));
}

std::vector<std::string_view> Gguf::texts(std::string_view key, bool list) const {
  const Value& value = this->value(
      key, list, [](Type type) { return type == Type::text; }, "texts");
  std::vector<std::string_view> texts;
  const std::byte* at = value.begin;
  for (std::uint64_t i = 0; i < value.count; ++i) {
    const auto bytes = load<std::uint64_t>(at);
    texts.emplace_back(reinterpret_cast<const char*>(at) + sizeof bytes, bytes);
    at += sizeof bytes + bytes;
  }
  return texts;
}

std::vector<std::int64_t> Gguf::wholes(std::string_view key, bool list) const {
  const auto is_whole = [](Type type) {
    return type != Type::f32 && type != Type::f64 && type != Type::boolean && type != Type::text;
  };
  const Value& value = this->value(key, list, is_whole, "whole numbers");
  std::vector<std::int64_t> numbers;
  switch (value.element) {
    case Type::u8:
      append<std::uint8_t>(value.begin, value.count, numbers);
      break;
    case Type::i8:
      append<std::int8_t>(value.begin, value.count, numbers);
      break;
    case Type::u16:
      append<std::uint16_t>(value.begin, value.count, numbers);
      break;
    case Type::i16:
      append<std::int16_t>(value.begin, value.count, numbers);
      break;
    case Type::u32:
      append<std::uint32_t>(value.begin, value.count, numbers);
      break;
    case Type::i32:
      append<std::int32_t>(value.begin, value.count, numbers);
      break;
    default:
      append<std::int64_t>(value.begin, value.count, numbers);
  }
  for (const std::int64_t number : numbers)
    if (number < 0 && value.element == Type::u64) throw damaged(fmt::format("{} does not fit 63 bits", key));
  return numbers;
}

std::vector<double> Gguf::reals(std::string_view key, bool list) const {
  const auto is_real = [](Type type) { return type == Type::f32 || type == Type::f64; };
  const Value& value = this->value(key, list, is_real, "floating-point numbers");
  std::vector<double> numbers;
  if (value.element == Type::f32) append<float>(value.begin, value.count, numbers);
  else append<double>(value.begin, value.count, numbers);
  return numbers;
}

std::string_view Gguf::text(std::string_view key) const { return texts(key, false)[0]; }
std::int64_t Gguf::whole(std::string_view key) const { return wholes(key, false)[0]; }
double Gguf::real(std::string_view key) const { return reals(key, false)[0]; }

bool Gguf::flag(std::string_view key) const {
  const auto is_flag = [](Type type) { return type == Type::boolean; };
  return *value(key, false, is_flag, "true and false").begin != std::byte{0};
}

std::vector<std::string_view> Gguf::texts(std::string_view key) const { return texts(key, true); }
std::vector<std::int64_t> Gguf::wholes(std::string_view key) const { return wholes(key, true); }
std::vector<double> Gguf::reals(std::string_view key) const { return reals(key, true); }

std::vector<std::string_view> Gguf::keys() const {
  std::vector<std::string_view> keys;
  for (const auto& [key, value] : values_) keys.push_back(key);
  return keys;
}

bool Gguf::is_list(std::string_view key) const {
  const auto found = values_.find(key);
  return found != values_.end() && found->second.type == Type::list;
}

}  // namespace neurogen
