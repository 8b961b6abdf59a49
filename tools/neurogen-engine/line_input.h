// Lines of user input: with editing and history on a terminal, read plainly from anything else.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace neurogen {

class LineInput {
 public:
  // `prompt` is shown only on a terminal. `commands` begin with '/' and are completed by the Tab key.
  LineInput(const std::string& prompt, std::vector<std::string> commands);
  ~LineInput();

  bool terminal() const { return editor_ != nullptr; }
  // The next line without its end. Lines pasted into a terminal at once are returned as one, unless the first is a command. Empty
  // at the end of the input, and after a signal while waiting (signals.h).
  std::optional<std::string> next();

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;
};

}  // namespace neurogen
