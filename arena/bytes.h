// Sizes in bytes: always 64-bit, with checked sums and products, parsed from and formatted for people.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "arena/error.h"

namespace neurogen {

using Bytes = std::uint64_t;

// Every buffer starts at a multiple of this and is rounded up to it (cuBLAS assumes 256 for its operands).
inline constexpr Bytes kAlignment = 256;

// Checked arithmetic: throws Error if the result does not fit 64 bits.
Bytes add(Bytes a, Bytes b);
Bytes multiply(Bytes a, Bytes b);
Bytes align_up(Bytes size);

// Parses "3200M", "2.98Gi", "64K", "12345": K, M, G, T are powers of 1,000, Ki, Mi, Gi, Ti of 1,024; a trailing B is allowed. A
// fraction needs a unit and rounds down to whole bytes. Throws Error that starts with the field for anything else: empty, negative,
// not a number, more than 64 bits.
Bytes parse_bytes(std::string_view text, Field field);

// 3200000000 -> "3,200,000,000".
std::string with_commas(Bytes bytes);
// 3200000000 -> "3.20 GB", 42000 -> "42.0 KB": three digits, powers of 1,000.
std::string human(Bytes bytes);

}  // namespace neurogen
