#include "tests/engine/staging.h"

namespace neurogen {
namespace {

TEST(CudaStaging, BringsEveryByteThereAndBack) {
  if (CudaDevice::count() == 0) GTEST_SKIP() << "no GPU";
  check_staging({true, 0});
}

}  // namespace
}  // namespace neurogen
