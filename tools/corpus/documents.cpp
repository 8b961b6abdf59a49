#include "tools/corpus/documents.h"

#include "arena/error.h"

namespace neurogen {

DocumentRule parse_document_rule(const std::string& text) {
  static constexpr std::string_view kUntil = "until:";
  if (text == "file") return {};
  if (text == "line") return {DocumentRule::line, ""};
  if (text.starts_with(kUntil) && text.find('\n') == std::string::npos) return {DocumentRule::until, text.substr(kUntil.size())};
  throw Error("--documents is \"" + text + "\": use file, line or until:LINE");
}

void DocumentCutter::add(std::string_view text) {
  if (rule_.kind == DocumentRule::file) return pass_on(text);
  while (!text.empty()) {
    const std::string_view part = text.substr(0, text.find('\n') == std::string_view::npos ? text.size() : text.find('\n') + 1);
    text.remove_prefix(part.size());
    if (rule_.kind == DocumentRule::until) {
      add_line(part);
      continue;
    }
    pass_on(part);
    if (part.back() == '\n') end();
  }
}

// `line` has no "\n".
bool DocumentCutter::is_end(std::string_view line) const { return line == rule_.end || line == end_; }

void DocumentCutter::add_line(std::string_view part) {
  const bool ends = part.back() == '\n';
  if (may_be_end_) {
    begun_ += part;
    const std::string_view line = std::string_view(begun_).substr(0, begun_.size() - ends);
    if (ends && is_end(line)) {
      end();
    } else if (ends || !end_.starts_with(line)) {
      pass_on(begun_);
      may_be_end_ = false;
    } else {
      return;
    }
    begun_.clear();
  } else {
    pass_on(part);
  }
  may_be_end_ = ends;
}

void DocumentCutter::end_input() {
  if (!is_end(begun_)) pass_on(begun_);
  begun_.clear();
  may_be_end_ = true;
  end();
}

void DocumentCutter::pass_on(std::string_view text) {
  open_ = open_ || !text.empty();
  sink_.add(text);
}

void DocumentCutter::end() {
  if (open_) sink_.end_document();
  open_ = false;
}

}  // namespace neurogen
