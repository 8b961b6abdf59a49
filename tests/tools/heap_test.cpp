// The heap's cap: a file that is read into memory and does not fit ends the program with one sentence.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

TEST(Heap, EndsWithOneSentenceAtItsCap) {
  const TemporaryDirectory directory;
  const std::string file = directory.path("huge.json");
  std::ofstream(file).put('{');
  std::filesystem::resize_file(file, 200'000'000);
  FILE* pipe = popen((NEUROGEN_BIN "/neurogen-engine --arch " + file + " 2>&1").c_str(), "r");
  std::array<char, 1024> text{};
  const std::size_t size = std::fread(text.data(), 1, text.size() - 1, pipe);
  EXPECT_EQ(WEXITSTATUS(pclose(pipe)), 1);
  EXPECT_EQ(std::string(text.data(), size),
            "neurogen-engine: the heap has reached its cap of 64,000,000 bytes: use smaller files, and make tokens of large texts "
            "first (corpus tokenize)\n");
}

}  // namespace
}  // namespace neurogen
