// Lines that a person types: edited and remembered on a terminal, read as they come from anything else.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace neurogen {

class LineInput {
 public:
  // `prompt` is shown on a terminal only. `commands` begin with '/' and are completed by the Tab key.
  LineInput(const std::string& prompt, std::vector<std::string> commands);
  ~LineInput();

  bool terminal() const { return editor_ != nullptr; }
  // The next line without its end. Lines that are pasted into a terminal together come together, but for commands. Nothing at the
  // end of the input, and where a signal came while a line was awaited (signals.h).
  std::optional<std::string> next();

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;
};

}  // namespace neurogen
