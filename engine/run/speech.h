// What a brain says on its way to a reader: whole characters alone, and nothing of a text that ends the speech.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace neurogen {

class Speech {
 public:
  // `stops` end the speech and are not part of it; none may be empty. No piece is longer than `longest_piece` bytes.
  Speech(std::vector<std::string> stops, std::size_t longest_piece);

  // Takes a piece and returns what can be shown by now, valid until the next call. Held back: a character's first bytes while
  // others may follow, and what may be the beginning of a stop. Bytes that are no UTF-8 are shown as U+FFFD. Allocates nothing.
  std::string_view add(std::string_view piece);
  bool stopped() const { return stopped_; }
  // What was held back until now; a character that stayed incomplete as U+FFFD. A new speech may begin.
  std::string_view finish();

 private:
  void show(std::size_t bytes, bool all);

  std::vector<std::string> stops_;
  std::string held_, shown_;
  bool stopped_ = false;
};

}  // namespace neurogen
