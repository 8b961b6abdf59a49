#include "engine/data/shuffle.h"

#include <cmath>
#include <vector>

#include "tests/expect_error.h"

namespace neurogen {
namespace {

bool is_permutation(std::uint64_t n, std::uint64_t seed, std::uint64_t epoch) {
  const Shuffle shuffle(n, seed, epoch);
  std::vector<bool> seen(n);
  for (std::uint64_t i = 0; i < n; ++i) {
    const std::uint64_t to = shuffle(i);
    if (to >= n || seen[to]) return false;
    seen[to] = true;
  }
  return true;
}

TEST(Shuffle, VisitsEverythingOnce) {
  for (std::uint64_t n = 1; n <= 300; ++n) ASSERT_TRUE(is_permutation(n, 42, n % 5)) << n;
  for (const std::uint64_t n : {4095u, 4096u, 4097u, 65536u, 91779u, 1000003u}) ASSERT_TRUE(is_permutation(n, 1, 2)) << n;
}

TEST(Shuffle, StaysInRangeForTheLargest) {
  for (const std::uint64_t n : {(std::uint64_t{1} << 40) + 1, std::uint64_t{1} << 62}) {
    const Shuffle shuffle(n, 3, 4);
    for (std::uint64_t i = 0; i < 1000; ++i) ASSERT_LT(shuffle(n - 1 - i), n);
  }
  EXPECT_ERROR(Shuffle(0, 1, 1), "0 elements");
  EXPECT_ERROR(Shuffle((std::uint64_t{1} << 62) + 1, 1, 1), "1 to 2^62");
}

TEST(Shuffle, EpochsAndSeedsDiffer) {
  const std::uint64_t n = 10000;
  const Shuffle a(n, 1, 0), b(n, 1, 1), c(n, 2, 0), again(n, 1, 0);
  int equal_epoch = 0, equal_seed = 0, unmoved = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    ASSERT_EQ(a(i), again(i));
    equal_epoch += a(i) == b(i);
    equal_seed += a(i) == c(i);
    unmoved += a(i) == i;
  }
  // One of each is expected; more than 10 has a probability of 1e-8.
  EXPECT_LE(equal_epoch, 10);
  EXPECT_LE(equal_seed, 10);
  EXPECT_LE(unmoved, 10);
}

// Over many epochs each index lands everywhere equally often, and so do pairs of neighbours, measured by their distance.
TEST(Shuffle, IsRoughlyUniform) {
  constexpr std::uint64_t n = 20, epochs = 20000;
  std::vector<double> landed(n * n), distance(n);
  for (std::uint64_t epoch = 0; epoch < epochs; ++epoch) {
    const Shuffle shuffle(n, 9, epoch);
    for (std::uint64_t i = 0; i < n; ++i) {
      ++landed[i * n + shuffle(i)];
      ++distance[(shuffle((i + 1) % n) + n - shuffle(i)) % n];
    }
  }
  double chi = 0;
  for (const double count : landed) chi += std::pow(count - epochs / double(n), 2) / (epochs / double(n));
  EXPECT_NEAR(chi, 19.0 * 19, 150);  // 361 degrees of freedom, standard deviation 27
  EXPECT_EQ(distance[0], 0);
  for (std::uint64_t d = 1; d < n; ++d) EXPECT_NEAR(distance[d] / (epochs * n), 1.0 / (n - 1), 0.002) << d;
}

// A tenth of the epoch covers all of the corpus evenly.
TEST(Shuffle, SpreadsItsBeginningOverEverything) {
  const std::uint64_t n = 100000;
  const Shuffle shuffle(n, 5, 6);
  std::vector<int> tenth(10);
  for (std::uint64_t i = 0; i < n / 10; ++i) ++tenth[shuffle(i) / (n / 10)];
  for (const int count : tenth) EXPECT_NEAR(count, 1000, 150);  // five standard deviations
}

}  // namespace
}  // namespace neurogen
