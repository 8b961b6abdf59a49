#include "tools/common/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "arena/error.h"

namespace neurogen {
namespace {

constexpr int kBarWidth = 24;

// Writes in one call: the bar must not tear, and stdio would allocate.
void put(const char* text, std::size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(STDERR_FILENO, text, size);
    if (written <= 0) return;
    text += written;
    size -= static_cast<std::size_t>(written);
  }
}

}  // namespace

Progress::Progress(const std::string& style) {
  if (style == "none") style_ = Style::none;
  else if (style == "plain") style_ = Style::plain;
  else if (style == "auto") style_ = ::isatty(STDERR_FILENO) ? Style::bar : Style::plain;
  else throw Error("--progress is \"" + style + "\": use auto, plain or none");
}

void Progress::show(double share, std::string_view text, double seconds_left) {
  if (style_ == Style::none) return;
  const auto now = std::chrono::steady_clock::now();
  const auto pause = style_ == Style::bar ? std::chrono::milliseconds(100) : std::chrono::seconds(10);
  if (share != 1 && now - last_ < pause) return;
  last_ = now;
  char line[256];
  char* end = line;
  if (style_ == Style::bar) {
    end = fmt::format_to(end, "\r[");
    for (int i = 0; i < kBarWidth; ++i) *end++ = i < share * kBarWidth ? '#' : '.';
    end = fmt::format_to(end, "] ");
  }
  end = fmt::format_to(end, "{}", text.substr(0, 128));
  if (seconds_left >= 0) {
    const auto left = static_cast<std::int64_t>(seconds_left + 0.5);
    end = fmt::format_to(end, "  {}:{:02} left", left / 60, left % 60);
  }
  end = fmt::format_to(end, "{}", style_ == Style::bar ? "   " : "\n");
  put(line, static_cast<std::size_t>(end - line));
  open_ = style_ == Style::bar;
}

void Progress::note(std::string_view line) {
  if (style_ == Style::none || line.empty()) return;
  if (open_) put("\r\033[K", 4);  // the bar is drawn again below
  put(line.data(), line.size());
  put("\n", 1);
  open_ = false;
}

void Progress::finish() {
  if (open_) put("\n", 1);
  open_ = false;
}

}  // namespace neurogen
