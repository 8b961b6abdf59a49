#include "kernels/checksum.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

std::int64_t checksum_of(TensorView x, int threads = 1) {
  Tensor<std::int64_t> sum({1}, -1);
  checksum(device_of(threads), {{x}, sum.view()});
  return sum[0];
}

TEST(Checksum, IsItsFormula) {
  Tensor<std::int64_t> x({2}, 0);
  x[0] = 5, x[1] = -3;
  const auto word = [](std::uint64_t w) {
    w ^= w >> 30, w *= 0xBF58476D1CE4E5B9u;
    w ^= w >> 27, w *= 0x94D049BB133111EBu;
    return w ^ w >> 31;
  };
  const std::uint64_t golden = 0x9E3779B97F4A7C15u;
  EXPECT_EQ(static_cast<std::uint64_t>(checksum_of(x.view())), word(5 + golden) + word(2 * golden - 3));
}

TEST(Checksum, ChangesWithEveryBitAndWithTheOrder) {
  Tensor<std::int32_t> x({37}, 0);  // the last word is not whole
  for (std::int64_t i = 0; i < 37; ++i) x[i] = static_cast<std::int32_t>(i * 1'000'003);
  const std::int64_t sum = checksum_of(x.view());
  for (std::int64_t i = 0; i < 37; ++i) {
    for (int bit = 0; bit < 32; ++bit) {
      x[i] ^= 1 << bit;
      EXPECT_NE(checksum_of(x.view()), sum) << i << ", " << bit;
      x[i] ^= 1 << bit;
    }
  }
  std::swap(x[4], x[6]), std::swap(x[5], x[7]);  // whole words
  EXPECT_NE(checksum_of(x.view()), sum);
}

TEST(Checksum, TakesSeveralTensorsOnAnyNumberOfThreads) {
  Tensor<float> big = Tensor<float>::noise({300'001}, 1), small = Tensor<float>::noise({3}, 2);
  Tensor<std::int64_t> sums({2}, -1);
  for (const int threads : {1, 2, 3}) {
    checksum(device_of(threads), {{big.view(), small.view()}, sums.view()});
    EXPECT_EQ(sums[0], checksum_of(big.view()));
    EXPECT_EQ(sums[1], checksum_of(small.view()));
  }
  EXPECT_THROW(checksum(device_of(1), {{big.view().rows(0, 100).reshaped({10, 10}).columns(0, 3)}, sums.view()}), Error);
}

}  // namespace
}  // namespace neurogen
