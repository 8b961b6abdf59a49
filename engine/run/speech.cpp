#include "engine/run/speech.h"

#include <algorithm>

#include "engine/data/text.h"

namespace neurogen {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Length of the longest suffix of `text` that is a prefix of `stop`.
std::size_t overlap(std::string_view text, std::string_view stop) {
  for (std::size_t n = std::min(text.size(), stop.size()); n > 0; --n) {
    if (text.ends_with(stop.substr(0, n))) return n;
  }
  return 0;
}

}  // namespace

Speech::Speech(std::vector<std::string> stops, std::size_t longest_piece) : stops_(std::move(stops)) {
  std::size_t longest_stop = 4;  // longest UTF-8 character
  for (const std::string& stop : stops_) longest_stop = std::max(longest_stop, stop.size());
  held_.reserve(longest_stop + longest_piece);
  shown_.reserve(held_.capacity() * kReplacement.size());
}

// Shows the first `bytes` of the held text, without an incomplete character at their end unless `all`.
void Speech::show(std::size_t bytes, bool all) {
  shown_.clear();
  std::size_t at = 0;
  while (at < bytes) {
    const std::string_view rest = std::string_view(held_).substr(at, bytes - at);
    const std::size_t length = utf8_sequence(rest);
    if (length == 0 && !all && incomplete_utf8(rest)) break;
    shown_ += length == 0 ? kReplacement : rest.substr(0, length);
    at += std::max<std::size_t>(length, 1);
  }
  held_.erase(0, at);
}

std::string_view Speech::add(std::string_view piece) {
  held_ += piece;
  std::size_t stop_at = std::string::npos, maybe = 0;
  for (const std::string& stop : stops_) {
    stop_at = std::min(stop_at, held_.find(stop));
    maybe = std::max(maybe, overlap(held_, stop));
  }
  stopped_ = stop_at != std::string::npos;
  show(stopped_ ? stop_at : held_.size() - maybe, stopped_);
  if (stopped_) held_.clear();
  return shown_;
}

std::string_view Speech::finish() {
  show(held_.size(), true);
  stopped_ = false;
  return shown_;
}

}  // namespace neurogen
