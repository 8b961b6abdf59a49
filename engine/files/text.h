// UTF-8 text files, mapped and checked.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "engine/files/file_io.h"

namespace neurogen {

// Position of the first byte that is not part of well-formed UTF-8 (RFC 3629: no overlong forms, no surrogates), or npos.
std::size_t find_invalid_utf8(std::string_view text);

// Bytes of the well-formed sequence at the start of `text`, 0 if there is none. Table 3-7 of the Unicode Standard.
std::size_t utf8_sequence(std::string_view text);
// Whether more bytes could make `text`, which has no such sequence at its start, begin with one.
bool incomplete_utf8(std::string_view text);

class TextFile {
 public:
  // Throws Error that names the file: as MappedFile, empty, or not UTF-8 (with the position of the first wrong byte).
  explicit TextFile(const std::string& path);
  std::string_view text() const { return file_.text(); }

 private:
  MappedFile file_;
};

std::size_t count_lines(std::string_view text);  // a last line without newline counts

// The text before and from the held-out lines: the last `held_out` (0 to 1) of its lines, rounded to whole lines, at least
// one. Throws Error that starts with `name` unless both sides have a line.
std::pair<std::string_view, std::string_view> split_lines(std::string_view text, double held_out, const std::string& name);

}  // namespace neurogen
