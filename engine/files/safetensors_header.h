// Shared by the reader and the writer of safetensors.
#pragma once
#include <array>
#include <string_view>
#include <utility>

#include "arena/tensor_view.h"

namespace neurogen {

inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;  // bytes, the format's own limit
inline constexpr std::string_view kMetadata = "__metadata__";

inline constexpr std::array<std::pair<std::string_view, DType>, 9> kSafetensorsTypes = {{
    {"F64", DType::f64},
    {"F32", DType::f32},
    {"BF16", DType::bf16},
    {"F16", DType::f16},
    {"I64", DType::i64},
    {"I32", DType::i32},
    {"U16", DType::u16},
    {"U8", DType::u8},    // what u8 is written as
    {"BOOL", DType::u8},  // read only
}};

}  // namespace neurogen
