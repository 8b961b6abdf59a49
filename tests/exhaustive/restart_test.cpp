// The law of restarts on many random brains.
#include "tests/engine/restart.h"

namespace neurogen {
namespace {

TEST(Restart, ARunThatWasCutIsTheRunThatNeverWas) {
  for (std::uint64_t seed = 100; seed < 500; ++seed) check_restart(seed);
}

}  // namespace
}  // namespace neurogen
