// Restarts change no bit.
#include "tests/engine/restart.h"

namespace neurogen {
namespace {

TEST(Restart, ARunThatWasCutIsTheRunThatNeverWas) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) check_restart(seed);
  for (std::uint64_t seed = 50; seed < 80; ++seed) check_restart(seed, random_transformer);
}

}  // namespace
}  // namespace neurogen
