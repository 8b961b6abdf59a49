// The law of restarts on many random models.
#include "tests/engine/restart.h"

namespace neurogen {
namespace {

TEST(Restart, ARunThatWasCutIsTheRunThatNeverWas) {
  for (std::uint64_t seed = 100; seed < 500; ++seed) check_restart(seed);
  for (std::uint64_t seed = 600; seed < 1000; ++seed) check_restart(seed, random_transformer);
}

}  // namespace
}  // namespace neurogen
