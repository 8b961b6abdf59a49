#include "engine/files/one_line.h"

#include <algorithm>

#include "engine/files/utf8.h"

namespace neurogen {
namespace {

constexpr std::string_view kLeftOut = " ... ";

bool continues(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

}  // namespace

Character first_character(std::string_view text) {
  const std::size_t bytes = utf8_sequence(text);
  const std::string_view character = text.substr(0, bytes);
  const bool control = bytes == 1 && (static_cast<unsigned char>(text[0]) < 0x20 || text[0] == 0x7F);
  return {bytes, control || character == "\u0085" || character == "\u2028" || character == "\u2029"};
}

std::string one_line(std::string_view text, std::size_t most) {
  std::string line;
  while (!text.empty()) {
    const Character character = first_character(text);
    if (character.bytes == 0) line += "\uFFFD";
    else if (!character.breaks) line += text.substr(0, character.bytes);
    text.remove_prefix(std::max<std::size_t>(character.bytes, 1));
  }
  if (line.size() <= most) return line;
  std::size_t begin = (most - kLeftOut.size()) / 2, end = line.size() - begin;
  while (begin > 0 && continues(line[begin])) --begin;
  while (end < line.size() && continues(line[end])) ++end;
  return line.substr(0, begin).append(kLeftOut).append(line, end);
}

}  // namespace neurogen
