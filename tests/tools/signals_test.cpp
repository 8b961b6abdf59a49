// Signals to a run.
#include "tools/common/signals.h"

#include <gtest/gtest.h>

#include <csignal>

namespace neurogen {
namespace {

TEST(Signals, AClosedTerminalIsNotedHoweverOftenItIsSaid) {
  std::signal(SIGHUP, SIG_DFL);
  catch_signals();
  std::raise(SIGHUP);
  std::raise(SIGHUP);  // by the system, and by the shell
  EXPECT_EQ(caught_signal(), SIGHUP);
  std::signal(SIGHUP, SIG_IGN);  // nohup
  catch_signals();
  std::raise(SIGHUP);
  EXPECT_EQ(caught_signal(), 0);
  for (const int number : {SIGHUP, SIGINT, SIGTERM}) std::signal(number, SIG_DFL);
}

}  // namespace
}  // namespace neurogen
