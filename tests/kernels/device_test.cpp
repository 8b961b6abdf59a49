#include "kernels/base/device.h"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <vector>

#include "kernels/base/vector_math.h"
#include "kernels/copy.h"
#include "tests/expect_error.h"
#include "tests/kernels/tensor.h"

#ifndef NEUROGEN_SANITIZE
static std::atomic<bool> no_threads{false};

// Replaces the C library's function: a system that starts no thread.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*), void* argument) {
  if (no_threads) return EAGAIN;
  static const auto real = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  return real(thread, attributes, body, argument);
}
#endif

namespace neurogen {
namespace {

TEST(Device, RunsEveryItemOnceOnAThreadOfItsOwn) {
  for (const int threads : {1, 2, 3, 7}) {
    CpuDevice device(threads);
    ASSERT_EQ(device.threads(), threads);
    for (const std::int64_t items : {0, 1, 2, 5, 1000}) {
      std::vector<int> runs(static_cast<std::size_t>(items), 0);
      std::vector<std::atomic<int>> inside(static_cast<std::size_t>(threads));
      device.parallel(items, [&](std::int64_t item, int thread) {
        ASSERT_TRUE(thread >= 0 && thread < threads);
        EXPECT_EQ(inside[static_cast<std::size_t>(thread)]++, 0) << "two items on one thread number at a time";
        ++runs[static_cast<std::size_t>(item)];
        --inside[static_cast<std::size_t>(thread)];
      });
      for (const int count : runs) ASSERT_EQ(count, 1);
    }
  }
}

// Late workers of one job must not take items of another with the wrong body.
TEST(Device, ManyShortJobsDoNotMix) {
  CpuDevice device(3);
  std::vector<std::int64_t> values(17);
  for (std::int64_t job = 0; job < 20000; ++job) {
    const std::int64_t items = 1 + job % 17;
    device.parallel(items, [&values, job](std::int64_t item, int) { values[static_cast<std::size_t>(item)] = job + item; });
    for (std::int64_t item = 0; item < items; ++item) ASSERT_EQ(values[static_cast<std::size_t>(item)], job + item);
  }
}

#ifndef NEUROGEN_SANITIZE  // a sanitizer has its own
TEST(Device, SaysWhatToDoWhereThereIsNoThread) {
  no_threads = true;
  EXPECT_ERROR(CpuDevice(3), "cannot start 3 threads", "ulimit -u");
  std::vector<int> done(5, 0);
  on_threads(5, [&](std::int64_t part) { ++done[static_cast<std::size_t>(part)]; });  // without a thread
  no_threads = false;
  on_threads(5, [&](std::int64_t part) { ++done[static_cast<std::size_t>(part)]; });
  EXPECT_EQ(done, std::vector<int>(5, 2));
}
#endif

TEST(Device, RefusesNegativeThreads) {
  EXPECT_THROW(CpuDevice(-1), Error);
  EXPECT_GE(CpuDevice().threads(), 1);
}

TEST(Copy, RefusesOtherSizesAndStridedRows) {
  Tensor<float> from({7, 5}, 0), to = from;
  EXPECT_THROW(copy(device_of(1), from.view().rows(0, 2), to.view()), Error);
  EXPECT_THROW(clear(device_of(1), to.view().columns(0, 2)), Error);
}

TEST(VectorMath, ExponentialIsAccurateToAUnitInTheLastPlace) {
  for (float x = -87.3f; x < 88.3f; x += 0.0137f) {
    const double exact = std::exp(static_cast<double>(x));
    const float unit = std::nextafter(static_cast<float>(exact), INFINITY) - static_cast<float>(exact);
    ASSERT_NEAR(fast_exp(x), exact, 1.01 * static_cast<double>(unit)) << x;
  }
  EXPECT_EQ(fast_exp(0.0f), 1.0f);
  EXPECT_EQ(fast_exp(-INFINITY), 0.0f);
  EXPECT_EQ(fast_exp(-1e30f), 0.0f);
  EXPECT_TRUE(std::isfinite(fast_exp(INFINITY)));
  EXPECT_TRUE(std::isnan(fast_exp(NAN)));
  EXPECT_TRUE(std::isnan(sigmoid(NAN)));
  EXPECT_EQ(sigmoid(200.0f), 1.0f);
  EXPECT_LT(sigmoid(-200.0f), 1e-37f);
}

TEST(VectorMath, DerivativesAndSums) {
  for (double x = -6; x < 6; x += 0.37) EXPECT_NEAR(silu_derivative(x), (silu(x + 1e-5) - silu(x - 1e-5)) / 2e-5, 1e-9);
  for (const std::int64_t n : {1, 31, 32, 33, 100})
    EXPECT_EQ(sum_over<double>(n, [](std::int64_t i) { return static_cast<double>(i); }), static_cast<double>(n * (n - 1) / 2));
}

}  // namespace
}  // namespace neurogen
