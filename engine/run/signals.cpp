#include "engine/run/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

namespace neurogen {
namespace {
volatile std::sig_atomic_t caught = 0;

void note(int signal) { caught = signal; }

void file_lost(int) {
  // Threads that work on the same file meet this together: the first one speaks for all, and ends the others.
  static std::atomic_flag said;
  while (said.test_and_set()) ::pause();
  static constexpr char sentence[] =
      "neurogen-engine: a file was cut short, or cannot be read any more, while it was in use: put it back and start again\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, sentence, sizeof sentence - 1);
  ::_exit(1);
}
}  // namespace

void catch_signals(bool all) {
  caught = 0;
  struct sigaction action = {};
  action.sa_handler = note;
  action.sa_flags = static_cast<int>(SA_RESTART | (all ? 0 : SA_RESETHAND));
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int caught_signal() { return caught; }

void expect_file_trouble() {
  std::signal(SIGBUS, file_lost);
  std::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace neurogen
