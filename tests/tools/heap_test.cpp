// The heap's cap: a file read into memory that does not fit ends the program with one sentence.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

TEST(Heap, EndsWithOneSentenceAtItsCap) {
  const TemporaryDirectory directory;
  std::string header = R"({"__metadata__": {"note": ")" + std::string(90'000'000, 'x') + R"("}})";
  const std::uint64_t size = header.size();
  std::string file(sizeof size, '\0');
  std::memcpy(file.data(), &size, sizeof size);
  directory.file("huge.safetensors", file + header);
  const ProgramResult result = run_program_in(directory, "neurogen-engine eval --init huge.safetensors --data huge.safetensors");
  EXPECT_EQ(result.status, 1);
  EXPECT_EQ(result.err,
            "neurogen-engine: the heap has reached its cap of 64,000,000 bytes: use smaller files, and make tokens of large texts "
            "first (corpus tokenize)\n");
}

}  // namespace
}  // namespace neurogen
