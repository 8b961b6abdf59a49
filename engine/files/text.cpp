#include "engine/files/text.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "arena/error.h"

namespace neurogen {

std::size_t utf8_sequence(std::string_view text) {
  const auto at = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto continues = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xBF) {
    return at(i) >= low && at(i) <= high;
  };
  const unsigned first = at(0);
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return continues(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    return continues(1, first == 0xE0 ? 0xA0 : 0x80, first == 0xED ? 0x9F : 0xBF) && continues(2) ? 3 : 0;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    return continues(1, first == 0xF0 ? 0x90 : 0x80, first == 0xF4 ? 0x8F : 0xBF) && continues(2) && continues(3) ? 4 : 0;
  }
  return 0;
}

bool incomplete_utf8(std::string_view text) {
  if (text.empty() || text.size() > 3) return false;
  // The lowest and the highest continuation: of the first bytes that restrict the second, each allows one of the two.
  for (const char filler : {'\x80', '\xBF'}) {
    char filled[6] = {filler, filler, filler, filler, filler, filler};
    text.copy(filled, text.size());
    if (utf8_sequence({filled, text.size() + 3}) > text.size()) return true;
  }
  return false;
}

std::size_t find_invalid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_sequence(text.substr(at, 4));
    if (length == 0) return at;
    at += length;
  }
  return std::string_view::npos;
}

TextFile::TextFile(const std::string& path) : file_(path) {
  if (text().empty()) throw Error(fmt::format("{} is empty: give a file with text in it", path));
  if (const std::size_t wrong = find_invalid_utf8(text()); wrong != std::string_view::npos) {
    throw Error(fmt::format("{} is not UTF-8 text at byte {}: convert it with iconv -t UTF-8", path, wrong));
  }
}

std::size_t count_lines(std::string_view text) {
  const auto newlines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  return newlines + (!text.empty() && text.back() != '\n');
}

std::pair<std::string_view, std::string_view> split_lines(std::string_view text, double held_out, const std::string& name) {
  const std::size_t lines = count_lines(text);
  const auto last = std::max<std::size_t>(1, static_cast<std::size_t>(std::llround(static_cast<double>(lines) * held_out)));
  if (last >= lines) {
    throw Error(fmt::format("{} has {} line{}, of which {} would be held out: give a longer text or a smaller --held-out",
                            name, lines, lines == 1 ? "" : "s", std::min(last, lines)));
  }
  std::size_t begin = 0;
  for (std::size_t line = last; line < lines; ++line) begin = text.find('\n', begin) + 1;
  return {text.substr(0, begin), text.substr(begin)};
}

}  // namespace neurogen
