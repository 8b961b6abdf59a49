#include "arena/gpu_errors.h"

#include <gtest/gtest.h>

#include "tests/expect_error.h"

namespace neurogen {
namespace {

TEST(GpuErrors, GpusThatAreThereAndCannotBeUsedAreNoReasonToGoOnWithout) {
  EXPECT_EQ(usable_gpus(GpuAnswer::counted, 2, true, 13, ""), 2);
  EXPECT_EQ(usable_gpus(GpuAnswer::none, 0, true, 13, ""), 0);
  EXPECT_EQ(usable_gpus(GpuAnswer::old_driver, 0, false, 13, ""), 0);
  EXPECT_EQ(usable_gpus(GpuAnswer::refused, 0, false, 13, ""), 0);
  EXPECT_ERROR(usable_gpus(GpuAnswer::old_driver, 0, true, 13, ""),
               "older than CUDA 13: install a newer driver, or pass device cpu");
  EXPECT_ERROR(usable_gpus(GpuAnswer::refused, 0, true, 13, "unknown error"), "(unknown error): fix that, or pass device cpu");
}

TEST(GpuErrors, AGpuThatIsNotThere) {
  require_gpu(1, 2);
  EXPECT_ERROR(require_gpu(0, 0), "there is no NVIDIA GPU here: use device cpu");
  EXPECT_ERROR(require_gpu(1, 1), "there is no GPU 1: use 0");
  EXPECT_ERROR(require_gpu(-1, 3), "use 0 to 2");
}

TEST(GpuErrors, AGpuThatIsTooOldOrUnknownToTheBuild) {
  require_capability("X", 75, true);
  EXPECT_ERROR(require_capability("GTX 1080", 61, true), "GTX 1080 has compute capability 6.1, 7.5 is needed: use device cpu");
  EXPECT_ERROR(require_capability("GTX 1650", 75, false), "7.5, for which this build has no code: build with make CUDA=75");
}

TEST(GpuErrors, AGpuThatIsTooSmallOrBusy) {
  EXPECT_ERROR(throw gpu_refuses("X", "out of memory"),
               "X cannot be used (out of memory): close the programs that use it, or pass device cpu");
  EXPECT_ERROR(throw gpu_too_full(5'000, 3'000, 4'000), "has 4,000 bytes in all, and the plan needs 5,000: pass a smaller budget");
  EXPECT_ERROR(throw gpu_too_full(3'500, 3'000, 4'000), "3,000 of 4,000 bytes free",
               "the plan needs 3,500: close other programs that use it");
  EXPECT_ERROR(throw gpu_too_full(3'500, 0, 0), "cannot allocate 3,500 bytes");
  for (const Error& error : {gpu_refuses("X", ""), gpu_too_full(1, 0, 0), gpu_too_full(2, 0, 1), gpu_too_full(1, 0, 2)}) {
    EXPECT_EQ(error.status(), Error::kRunTime);
  }
}

}  // namespace
}  // namespace neurogen
