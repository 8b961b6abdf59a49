#include "tools/neurogen-engine/line_input.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cwchar>

#include "tools/common/signals.h"

namespace neurogen {
namespace {

constexpr int kRememberedLines = 1000;
constexpr int kPasteMilliseconds = 20;  // input that follows a line end sooner was not typed

// Reads one byte; returns 0 at the end of the input or after a signal. Uses poll: a signal interrupts it even with SA_RESTART.
ssize_t read_byte(char* byte) {
  pollfd input = {STDIN_FILENO, POLLIN, 0};
  do {
    if (caught_signal()) return 0;
  } while (::poll(&input, 1, -1) < 0 && errno == EINTR);
  return ::read(STDIN_FILENO, byte, 1);
}

bool more_at_once() {
  pollfd input = {STDIN_FILENO, POLLIN, 0};
  return ::poll(&input, 1, kPasteMilliseconds) > 0;
}

}  // namespace

struct LineInput::Editor {
  std::string prompt;
  std::vector<std::string> commands;
  bool pasting = false;  // more input follows the last line at once
  EditLine* line = nullptr;
  History* history = nullptr;
  HistEvent event{};

  Editor(const std::string& prompt_, std::vector<std::string> commands_) : prompt(prompt_), commands(std::move(commands_)) {
    std::setlocale(LC_CTYPE, "C.UTF-8");  // texts are UTF-8, whatever the user's locale
    line = ::el_init("neurogen-engine", stdin, stdout, stderr);
    history = ::history_init();
    ::history(history, &event, H_SETSIZE, kRememberedLines);
    ::history(history, &event, H_SETUNIQUE, 1);
    ::el_set(line, EL_CLIENTDATA, this);
    ::el_set(line, EL_PROMPT,
             static_cast<const char* (*)(EditLine*)>([](EditLine* editing) { return of(editing).prompt.c_str(); }));
    ::el_set(line, EL_EDITOR, "emacs");
    ::el_set(line, EL_HIST, ::history, history);
    ::el_set(line, EL_GETCFN, read_character);
    // Ctrl-D pressed during an answer waits for the next line like other keys; the terminal would turn it into a zero.
    ::el_set(line, EL_SETTY, "-x", "eof=", nullptr);
    ::el_set(line, EL_ADDFN, "complete-command", "complete a command", complete);
    ::el_set(line, EL_BIND, "^I", "complete-command", nullptr);
    ::el_source(line, nullptr);  // ~/.editrc
  }
  ~Editor() {
    ::history_end(history);
    ::el_end(line);
  }

  static Editor& of(EditLine* editing) {
    Editor* self = nullptr;
    ::el_get(editing, EL_CLIENTDATA, &self);
    return *self;
  }
  static int read_character(EditLine* editing, wchar_t* character) {
    std::mbstate_t state{};
    for (char byte; read_byte(&byte) == 1;) {
      const std::size_t length = std::mbrtowc(character, &byte, 1, &state);
      if (length == static_cast<std::size_t>(-1)) state = {};  // invalid UTF-8 is skipped
      if (length >= static_cast<std::size_t>(-2)) continue;
      of(editing).pasting = (byte == '\n' || byte == '\r') && more_at_once();
      return 1;
    }
    return 0;
  }
  // Completes to the common prefix of all commands that begin with the typed text.
  static unsigned char complete(EditLine* editing, int) {
    const LineInfo* typed = ::el_line(editing);
    const std::string_view begun(typed->buffer, static_cast<std::size_t>(typed->cursor - typed->buffer));
    std::string common;
    for (const std::string& command : of(editing).commands) {
      if (!command.starts_with(begun)) continue;
      const auto differs = std::mismatch(common.begin(), common.end(), command.begin(), command.end()).first;
      common = common.empty() ? command : std::string(common.begin(), differs);
    }
    if (begun.empty() || common.size() <= begun.size()) return CC_ERROR;  // a beep
    return ::el_insertstr(editing, common.substr(begun.size()).c_str()) == 0 ? CC_REFRESH : CC_ERROR;
  }
};

LineInput::LineInput(const std::string& prompt, std::vector<std::string> commands) {
  if (::isatty(STDIN_FILENO) && ::isatty(STDOUT_FILENO)) editor_ = std::make_unique<Editor>(prompt, std::move(commands));
}

LineInput::~LineInput() = default;

std::optional<std::string> LineInput::next() {
  std::string line;
  if (!editor_) {
    char byte;
    while (read_byte(&byte) == 1) {
      if (byte == '\n') return line;
      line += byte;
    }
    // The last line may lack its end.
    return line.empty() || caught_signal() ? std::nullopt : std::optional(line);
  }
  do {
    int count = 0;
    const char* typed = ::el_gets(editor_->line, &count);
    if (!typed || count <= 0) return line.empty() || caught_signal() ? std::nullopt : std::optional(line);
    std::string_view added(typed, static_cast<std::size_t>(count));
    if (added.ends_with('\n')) added.remove_suffix(1);
    if (!added.empty()) ::history(editor_->history, &editor_->event, H_ENTER, std::string(added).c_str());
    line += line.empty() ? "" : "\n";
    line += added;
  } while (editor_->pasting && !line.starts_with('/'));
  return line;
}

}  // namespace neurogen
