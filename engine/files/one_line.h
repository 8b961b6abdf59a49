// Makes untrusted text, such as names and echoed values, fit for a message or a table.
#pragma once
#include <string>
#include <string_view>

namespace neurogen {

// The first character of `text`, which must not be empty. `bytes`: its length, 0 if it is not UTF-8. `breaks`: it is a control
// character, or one of U+0085, U+2028 and U+2029, which some readers treat as line ends.
struct Character {
  std::size_t bytes;
  bool breaks;
};
Character first_character(std::string_view text);

// Returns `text` on one line: invalid UTF-8 becomes U+FFFD, characters that break a line are dropped, and the middle is left out if
// it is longer than `most` bytes.
std::string one_line(std::string_view text, std::size_t most = 100);

}  // namespace neurogen
