// UTF-8 sequences.
#pragma once
#include <cstddef>
#include <string_view>

namespace neurogen {

// Position of the first byte that is not part of well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates), or npos.
std::size_t find_invalid_utf8(std::string_view text);

// Bytes of the well-formed sequence at the start of `text`, 0 if there is none. Table 3-7 of the Unicode Standard.
std::size_t utf8_sequence(std::string_view text);
// Whether appending bytes to `text`, which does not start with a well-formed sequence, could make it do so.
bool incomplete_utf8(std::string_view text);

}  // namespace neurogen
