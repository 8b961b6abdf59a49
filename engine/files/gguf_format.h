// Shared by the reader and the writer of GGUF.
#pragma once
#include <array>
#include <string>
#include <string_view>

#include "arena/bytes.h"

namespace neurogen {

inline constexpr std::string_view kGgufMagic = "GGUF", kGgufAlignment = "general.alignment";
inline constexpr std::uint32_t kGgufVersion = 3;
inline constexpr Bytes kGgufDefaultAlignment = 32;
inline constexpr std::array<std::uint32_t, 6> kGgmlTypes = {0, 1, 30, 8, 2, 3};  // numbers in files, by Encoding

std::string ggml_type_name(std::uint32_t type);  // "Q4_K", or the number of an unknown one

}  // namespace neurogen
