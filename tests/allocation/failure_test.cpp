// Failing allocations during start-up, a few of each kind; tests/exhaustive has them all.
#include "tests/allocation/failure.h"

namespace neurogen {
namespace {

TEST_F(Failure, OfOperatorNewEndsInASentence) {
  prepare(false, 2);
  check_every(by_new, counts_[by_new] / 20, 2);
}

TEST_F(Failure, OfLibrariesEndsInASentence) {
  prepare(true, 1);
  check_every(by_new, counts_[by_new] / 10);
  check_every(by_malloc, counts_[by_malloc] / 10);
}

// Only mimalloc's pages are dispensable. OpenBLAS's mmaps fail only singly, see heap.cpp.
TEST_F(Failure, OfPagesEndsInASentence) {
  prepare(false, 1);
  int ended = 0;
  for (unsigned long k = 1; k <= counts_[for_pages]; ++k) {
    for (const bool and_all_behind : {false, true}) ended += check(for_pages, k, and_all_behind);
  }
  EXPECT_GE(ended, 2 * 6);  // the brain's file, two of text, room for OpenBLAS, two arenas
  ASSERT_GE(counts_[by_openblas], 1u);
  EXPECT_TRUE(check(by_openblas, 1, false));
}

}  // namespace
}  // namespace neurogen
