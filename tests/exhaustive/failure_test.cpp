// Fails every allocation of our own code and very many of libraries', with the checks of tests/allocation/failure.h.
#include "tests/allocation/failure.h"

namespace neurogen {
namespace {

// In four parts, which run in parallel.
class EveryNew : public Failure, public testing::WithParamInterface<unsigned long> {};
INSTANTIATE_TEST_SUITE_P(Parts, EveryNew, testing::Values(1, 2, 3, 4));

TEST_P(EveryNew, EndsInASentence) {
  prepare(false, 1);
  check_every(by_new, 4, GetParam());
}

class ManyFailures : public Failure {};

TEST_F(ManyFailures, OfLibrariesEndInASentence) {
  prepare(true, 1);
  for (unsigned long k = 1; k <= std::min(counts_[by_malloc], 200ul); ++k) EXPECT_TRUE(check(by_malloc, k, false));
  check_every(by_malloc, 97, 201);
  check_every(by_new, 97);
}

TEST_F(ManyFailures, WithThreadsEndInASentence) {
  prepare(false, 3);
  check_every(by_malloc, 1);
  check_every(by_new, 97);
}

}  // namespace
}  // namespace neurogen
