// Splits long lines into segments for SentencePiece's encoder and trainer.
#pragma once
#include <algorithm>
#include <cstddef>
#include <string_view>

namespace neurogen {

// SentencePiece represents a space by this character, which therefore decodes to a space.
inline constexpr std::string_view kSpace = "\u2581";

// Bytes of the first segment of `text`: at most `limit` (at least 4), cut before a space, since pieces begin there, or, within a
// word longer than that, between two UTF-8 characters.
inline std::size_t segment_length(std::string_view text, std::size_t limit) {
  if (text.size() <= limit) return text.size();
  const std::size_t space = text.rfind(' ', limit);
  if (space != std::string_view::npos && space > 0) return space;
  std::size_t end = limit;
  while (end > limit - 3 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return end;
}

}  // namespace neurogen
