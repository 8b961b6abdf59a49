#include "tests/engine/staging.h"

namespace neurogen {
namespace {

// Like a GPU's, but without one.
TEST(Staging, BringsEveryByteThereAndBack) { check_staging({}); }

}  // namespace
}  // namespace neurogen
