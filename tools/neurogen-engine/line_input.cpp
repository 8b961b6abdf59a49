#include "tools/neurogen-engine/line_input.h"

#include <histedit.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cwchar>

#include "engine/run/signals.h"

namespace neurogen {
namespace {

constexpr int kRememberedLines = 1000;

// One byte, 0 at the end of the input and when a signal came: poll is what a signal interrupts whatever its handler asked for.
ssize_t read_byte(char* byte) {
  pollfd input = {STDIN_FILENO, POLLIN, 0};
  do {
    if (caught_signal()) return 0;
  } while (::poll(&input, 1, -1) < 0 && errno == EINTR);
  return ::read(STDIN_FILENO, byte, 1);
}

int read_character(EditLine*, wchar_t* character) {
  std::mbstate_t state{};
  for (char byte; read_byte(&byte) == 1;) {
    const std::size_t length = std::mbrtowc(character, &byte, 1, &state);
    if (length == static_cast<std::size_t>(-1)) state = {};  // no UTF-8: passed over
    else if (length != static_cast<std::size_t>(-2)) return 1;
  }
  return 0;
}

}  // namespace

struct LineInput::Editor {
  std::string prompt;
  EditLine* line = nullptr;
  History* history = nullptr;
  HistEvent event{};

  explicit Editor(const std::string& prompt_) : prompt(prompt_) {
    std::setlocale(LC_CTYPE, "C.UTF-8");  // our texts are UTF-8, whatever the terminal's owner reads otherwise
    line = ::el_init("neurogen-engine", stdin, stdout, stderr);
    history = ::history_init();
    ::history(history, &event, H_SETSIZE, kRememberedLines);
    ::history(history, &event, H_SETUNIQUE, 1);
    ::el_set(line, EL_CLIENTDATA, this);
    ::el_set(line, EL_PROMPT, static_cast<const char* (*)(EditLine*)>([](EditLine* editing) {
               Editor* self = nullptr;
               ::el_get(editing, EL_CLIENTDATA, &self);
               return self->prompt.c_str();
             }));
    ::el_set(line, EL_EDITOR, "emacs");
    ::el_set(line, EL_HIST, ::history, history);
    ::el_set(line, EL_GETCFN, read_character);
    // Ctrl-D waits for the next line like other keys that are pressed meanwhile; the terminal would make a zero of it.
    ::el_set(line, EL_SETTY, "-x", "eof=", nullptr);
    ::el_source(line, nullptr);  // ~/.editrc
  }
  ~Editor() {
    ::history_end(history);
    ::el_end(line);
  }
};

LineInput::LineInput(const std::string& prompt) {
  if (::isatty(STDIN_FILENO) && ::isatty(STDOUT_FILENO)) editor_ = std::make_unique<Editor>(prompt);
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
    // A last line without its end counts.
    return line.empty() || caught_signal() ? std::nullopt : std::optional(line);
  }
  int count = 0;
  const char* typed = ::el_gets(editor_->line, &count);
  if (!typed || count <= 0) return std::nullopt;
  line.assign(typed, static_cast<std::size_t>(count));
  if (line.ends_with('\n')) line.pop_back();
  if (!line.empty()) ::history(editor_->history, &editor_->event, H_ENTER, line.c_str());
  return line;
}

}  // namespace neurogen
