// Reads numbers from memory of any alignment, such as a mapped file's.
#pragma once
#include <cstddef>
#include <cstring>

namespace neurogen {

template <typename T>
T load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace neurogen
