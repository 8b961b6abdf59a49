// Texts from outside, such as names and values that are echoed, on their way into a message or a table.
#pragma once
#include <string>
#include <string_view>

namespace neurogen {

// The first character of `text`, not empty, in bytes; 0 where it is not UTF-8. `breaks`: a control character, or one of U+0085,
// U+2028 and U+2029, which some readers take for a line's end.
struct Character {
  std::size_t bytes;
  bool breaks;
};
Character first_character(std::string_view text);

// On one line: invalid UTF-8 becomes U+FFFD, characters that break a line are left out, and of more than `most` bytes the middle
// is left out.
std::string one_line(std::string_view text, std::size_t most);

}  // namespace neurogen
