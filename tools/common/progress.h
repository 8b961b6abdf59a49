// Progress of a long run on standard error: a bar on a terminal, a line every ten seconds elsewhere.
#pragma once
#include <chrono>
#include <string>
#include <string_view>

namespace neurogen {

class Progress {
 public:
  // style: auto (a bar on a terminal, else plain), plain (a line every ten seconds) or none. Throws Error for any other.
  explicit Progress(const std::string& style);
  ~Progress() { finish(); }

  // Shows the `share` done (0 to 1, negative: unknown), `text`, and the time left unless `seconds_left` is negative. Allocates
  // nothing; draws at most ten times per second, and always the end.
  void show(double share, std::string_view text, double seconds_left);
  // Prints a line above the bar; ignores an empty one. Allocates nothing.
  void note(std::string_view line);
  // Ends the bar's line, so that the next output starts on a new one.
  void finish();

 private:
  enum class Style { none, plain, bar } style_;
  std::chrono::steady_clock::time_point last_{};
  bool open_ = false;
};

}  // namespace neurogen
