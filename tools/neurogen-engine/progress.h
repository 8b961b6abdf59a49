// A line on standard error that tells how far a long run is: a bar on a terminal, a line now and then elsewhere.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace neurogen {

class Progress {
 public:
  // style: auto (a bar on a terminal, else plain), plain (a line every ten seconds), none. Throws Error for another.
  explicit Progress(const std::string& style);
  ~Progress() { finish(); }

  // `steps` may be 0 while it is not known yet. Allocates nothing; draws at most ten times a second.
  void show(std::int64_t step, std::int64_t steps, double loss, double tokens_per_second, double seconds_left);
  // Ends the bar's line, so that what is printed next starts on its own.
  void finish();

 private:
  enum class Style { none, plain, bar } style_;
  std::chrono::steady_clock::time_point last_{};
  bool open_ = false;
};

}  // namespace neurogen
