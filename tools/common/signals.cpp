#include "tools/common/signals.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>

namespace neurogen {
namespace {
std::atomic<int> caught = 0;  // read by several threads
static_assert(std::atomic<int>::is_always_lock_free);

char sentence[256];  // message of file_lost

void note(int signal) { caught = signal; }

void file_lost(int) {
  // Several threads reading the same file may get the signal together: the first one prints the message and ends the process.
  static std::atomic_flag said;
  while (said.test_and_set()) ::pause();
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, sentence, std::strlen(sentence));
  ::_exit(1);
}
}  // namespace

void catch_signals(bool all) {
  caught = 0;
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before = {}, action = {};
    sigaction(number, nullptr, &before);
    if (number == SIGHUP && before.sa_handler == SIG_IGN) continue;  // nohup
    action.sa_handler = note;
    // Closing a terminal sends SIGHUP twice: from the system and from the shell.
    action.sa_flags = static_cast<int>(SA_RESTART | (all || number == SIGHUP ? 0 : SA_RESETHAND));
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, nullptr);
  }
}

int caught_signal() { return caught; }

void expect_file_trouble(const char* program) {
  *fmt::format_to_n(sentence, sizeof sentence - 1,
                    "{}: a file was cut short, or cannot be read any more, while it was in use: put it back and start again\n",
                    program)
       .out = '\0';
  std::signal(SIGBUS, file_lost);
  std::signal(SIGXFSZ, SIG_IGN);
}

void outlive_readers() { std::signal(SIGPIPE, SIG_IGN); }

}  // namespace neurogen
