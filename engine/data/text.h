// UTF-8 text files, mapped and checked.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "engine/files/file_io.h"
#include "engine/files/utf8.h"

namespace neurogen {

class TextFile {
 public:
  // Throws Error that names the file: as MappedFile, empty, or not UTF-8 (with the position of the first invalid byte).
  explicit TextFile(const std::string& path);
  std::string_view text() const { return file_.text(); }

 private:
  MappedFile file_;
};

// Reads text of any size from a file, a pipe or standard input ("-"), piece by piece, validated, in constant memory.
class TextStream {
 public:
  // Throws Error that names a file that cannot be opened. `replace`: invalid bytes become U+FFFD, one for each maximal subpart of a
  // character (Unicode Standard, section 3.9), and are counted; else they are an Error.
  TextStream(const std::string& path, bool replace);
  TextStream(const TextStream&) = delete;
  TextStream& operator=(const TextStream&) = delete;
  ~TextStream();

  // Returns the next whole characters, valid until the next call; empty at the end. Throws Error that names the file if it is not
  // UTF-8 (with the position of the first invalid byte) or cannot be read.
  std::string_view next();
  std::uint64_t replaced() const { return replaced_; }

 private:
  std::string name_;
  int descriptor_;
  bool replace_, ended_ = false;
  std::string buffer_, clean_;
  std::string begun_;  // first bytes of an incomplete character
  std::uint64_t read_ = 0, replaced_ = 0;
};

std::size_t count_lines(std::string_view text);  // a last line without newline counts

// Number of lines to hold out: the share `held_out` (0 to 1) of `lines`, rounded, at least one. Throws Error that starts with
// `name` unless both sides have a line.
std::uint64_t held_out_lines(std::uint64_t lines, double held_out, const std::string& name);
// Splits a text into training and held-out lines (the last ones). Throws Error as held_out_lines.
std::pair<std::string_view, std::string_view> split_lines(std::string_view text, double held_out, const std::string& name);

}  // namespace neurogen
