#include "engine/run/signals.h"

#include <csignal>

namespace neurogen {
namespace {
volatile std::sig_atomic_t caught = 0;

void note(int signal) { caught = signal; }
}  // namespace

void catch_signals() {
  struct sigaction action = {};
  action.sa_handler = note;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

int caught_signal() { return caught; }

}  // namespace neurogen
