// Lines that a person types: edited and remembered on a terminal, read as they come from anything else.
#pragma once
#include <memory>
#include <optional>
#include <string>

namespace neurogen {

class LineInput {
 public:
  explicit LineInput(const std::string& prompt);  // shown on a terminal alone
  ~LineInput();

  bool terminal() const { return editor_ != nullptr; }
  // The next line without its end; nothing at the end of the input, and where a signal came while a line was awaited (signals.h).
  std::optional<std::string> next();

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;
};

}  // namespace neurogen
