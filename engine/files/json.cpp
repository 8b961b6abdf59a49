#include "engine/files/json.h"

#include <algorithm>
#include <iterator>

#include "engine/files/one_line.h"

namespace neurogen {

void append_json_text(std::string& to, std::string_view text) {
  while (!text.empty()) {
    const Character character = first_character(text);
    const auto first = static_cast<unsigned>(static_cast<unsigned char>(text[0]));
    if (character.bytes == 0) to += "\uFFFD";
    else if (character.breaks && character.bytes == 1) fmt::format_to(std::back_inserter(to), "\\u{:04x}", first);
    else if (character.breaks) to += text.starts_with("\u0085") ? "\\u0085" : text.starts_with("\u2028") ? "\\u2028" : "\\u2029";
    else if (first == '"' || first == '\\') to.append("\\").append(text, 0, 1);
    else to += text.substr(0, character.bytes);
    text.remove_prefix(std::max<std::size_t>(character.bytes, 1));
  }
}

std::string json_text(std::string_view text) {
  std::string quoted = "\"";
  append_json_text(quoted, text);
  return quoted + "\"";
}

}  // namespace neurogen
