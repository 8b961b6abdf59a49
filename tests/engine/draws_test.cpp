#include "engine/data/draws.h"

#include <algorithm>
#include <map>
#include <set>

#include "engine/data/shuffle.h"
#include "tests/expect_error.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

class DrawsTest : public testing::Test {
 protected:
  Tokens text(const std::vector<int>& files, std::vector<std::int64_t> weights = {}) {
    std::vector<std::string> paths;
    for (std::size_t f = 0; f < files.size(); ++f) {
      paths.push_back(directory_.file(std::to_string(f) + ".bin", std::string(static_cast<std::size_t>(files[f]) * 2, '\0')));
    }
    return Tokens(paths, nullptr, std::move(weights));
  }
  TemporaryDirectory directory_;
};

TEST_F(DrawsTest, WithoutWeightsAreAShuffledStream) {
  const Tokens all = text({50, 75});
  const Draws draws(all, 4, 5, 9);
  EXPECT_EQ(draws.steps_per_epoch(), 6);  // 31 windows, across the files' border
  for (const std::int64_t epoch : {0, 1, 7}) {
    const Shuffle order(31, 9, static_cast<std::uint64_t>(epoch));
    for (std::int64_t i = 0; i < 30; ++i) {
      EXPECT_EQ(draws.begin(epoch * 6 + i / 5, i % 5), 4 * static_cast<std::int64_t>(order(static_cast<std::uint64_t>(i))));
    }
  }
}

TEST_F(DrawsTest, WeightsShareOutTheDraws) {
  const Tokens all = text({41, 18, 401}, {3, 1, 2});
  const Draws draws(all, 4, 5, 9);
  EXPECT_EQ(draws.steps_per_epoch(), (10 + 4 + 100) / 5);
  const std::int64_t begins[] = {0, 41, 59, 460};
  std::vector<std::int64_t> drawn[3];
  for (std::int64_t draw = 0; draw < 6 * 200; ++draw) {
    const std::int64_t begin = draws.begin(draw / 5, draw % 5);
    const auto file = static_cast<std::size_t>(std::upper_bound(begins, begins + 4, begin) - begins - 1);
    ASSERT_EQ((begin - begins[file]) % 4, 0);
    ASSERT_LE(begin + 4, begins[file + 1] - 1);  // the last target is in the same file
    drawn[file].push_back(begin);
    if (draw % 6 == 5) {
      ASSERT_EQ(drawn[0].size(), static_cast<std::size_t>(draw + 1) / 2);
      ASSERT_EQ(drawn[1].size(), static_cast<std::size_t>(draw + 1) / 6);
    }
  }
  for (const auto& [list, windows, times] : {std::tuple{&drawn[0], 10, 60}, {&drawn[1], 4, 50}, {&drawn[2], 100, 4}}) {
    std::map<std::int64_t, int> counts;
    for (const std::int64_t begin : *list) ++counts[begin];
    EXPECT_EQ(counts.size(), static_cast<std::size_t>(windows));
    for (const auto& [begin, count] : counts) EXPECT_EQ(count, times) << begin;
    EXPECT_FALSE(std::equal(list->begin(), list->begin() + windows, list->begin() + windows)) << "each pass in another order";
  }
  const Draws again(all, 4, 5, 9), other(all, 4, 5, 10);
  int same = 0;
  for (std::int64_t step = 0; step < 40; ++step) {
    EXPECT_EQ(again.begin(step, 3), draws.begin(step, 3));
    same += other.begin(step, 3) == draws.begin(step, 3);
  }
  EXPECT_LT(same, 10);
}

TEST_F(DrawsTest, RefuseWhatHasNoWindow) {
  EXPECT_ERROR(Draws(text({24}), 4, 6, 1), "24 tokens, a batch of 6 windows needs 25");
  EXPECT_ERROR(Draws(text({100, 4}, {1, 1}), 4, 1, 1), "1.bin has 4 tokens, a window needs 5");
  EXPECT_ERROR(Draws(text({9, 9}, {1, 1}), 4, 5, 1), "a batch of 5 windows");
}

TEST_F(DrawsTest, HashesKnowWhereWeightedFilesEnd) {
  std::set<std::uint64_t> hashes = {text({50, 75}).hash(), text({50, 75}, {1, 1}).hash(), text({51, 74}, {1, 1}).hash()};
  EXPECT_EQ(hashes.size(), 3u);
  EXPECT_EQ(text({50, 75}).hash(), text({51, 74}).hash());
}

// A text of 256 GB, a sparse file: reading all of it would take minutes.
TEST_F(DrawsTest, NobodyReadsAVeryLongText) {
  const std::string path = directory_.file("long.bin", "");
  std::error_code error;
  std::filesystem::resize_file(path, std::uint64_t{256} << 30, error);
  if (error) GTEST_SKIP() << "no file system for such a file: " << error.message();
  const Tokens all({path}, nullptr);
  EXPECT_EQ(all.size(), std::int64_t{128} << 30);
  EXPECT_NO_THROW(all.check_vocabulary(1));
  const std::uint64_t hash = all.hash();
  const Draws draws(all, 256, 32, 1);
  std::int32_t ids[257];
  for (std::int64_t step = 0; step < 100; ++step) all.read(draws.begin(step, step % 32), ids);
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).seekp(-1, std::ios::end).write("\1", 1);
  const Tokens changed({path}, nullptr);
  EXPECT_NE(changed.hash(), hash);
  EXPECT_ERROR(changed.check_vocabulary(256), "has token 256, but the vocabulary has 256");
}

}  // namespace
}  // namespace neurogen
