// Restarts change no bit.
#include "tests/engine/restart.h"

namespace neurogen {
namespace {

TEST(Restart, ARunThatWasCutIsTheRunThatNeverWas) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) check_restart(seed);
}

}  // namespace
}  // namespace neurogen
