// The GPU of the tests, or a reason to skip them.
#pragma once
#include <gtest/gtest.h>

#include "arena/block.h"
#include "arena/error.h"
#include "kernels/base/cuda_device.h"

namespace neurogen {

inline CudaDevice& gpu() {
  static CudaDevice device;
  return device;
}

class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    if (CudaDevice::count() == 0) GTEST_SKIP() << "there is no GPU here";
  }
};

}  // namespace neurogen
