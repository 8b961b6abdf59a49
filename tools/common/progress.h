// A line on standard error that tells how far a long run is: a bar on a terminal, a line now and then elsewhere.
#pragma once
#include <chrono>
#include <string>
#include <string_view>

namespace neurogen {

class Progress {
 public:
  // style: auto (a bar on a terminal, else plain), plain (a line every ten seconds), none. Throws Error for another.
  explicit Progress(const std::string& style);
  ~Progress() { finish(); }

  // `share`, 0 to 1, is done; less than 0: not known. `text` says how it goes; no time is shown where `seconds_left` is less than
  // 0. Allocates nothing; draws at most ten times a second, and the end.
  void show(double share, std::string_view text, double seconds_left);
  // A line of its own above the bar; nothing for an empty one. Allocates nothing.
  void note(std::string_view line);
  // Ends the bar's line, so that what is printed next starts on its own.
  void finish();

 private:
  enum class Style { none, plain, bar } style_;
  std::chrono::steady_clock::time_point last_{};
  bool open_ = false;
};

}  // namespace neurogen
