#include "tests/engine/staging.h"

namespace neurogen {
namespace {

// As a GPU's, but for the GPU.
TEST(Staging, BringsEveryByteThereAndBack) { check_staging({}); }

}  // namespace
}  // namespace neurogen
