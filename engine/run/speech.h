// Prepares generated text for display: only whole characters, up to a stop text.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace neurogen {

class Speech {
 public:
  // `stops` end the speech and are not shown; none may be empty. No piece is longer than `longest_piece` bytes.
  Speech(std::vector<std::string> stops, std::size_t longest_piece);

  // Adds a piece and returns the text that can be shown, valid until the next call. Holds back an incomplete character, and text
  // that may be the beginning of a stop. Shows invalid UTF-8 as U+FFFD. Allocates nothing.
  std::string_view add(std::string_view piece);
  bool stopped() const { return stopped_; }
  // Returns the text held back, an incomplete character as U+FFFD. A new speech may begin afterwards.
  std::string_view finish();

 private:
  void show(std::size_t bytes, bool all);

  std::vector<std::string> stops_;
  std::string held_, shown_;
  bool stopped_ = false;
};

}  // namespace neurogen
