// The heap's cap: a file read into memory that does not fit ends the program with one sentence.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>

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

// What a tokenizer holds is within the cap of its vocabulary, which plans say.
TEST(Heap, HasRoomForAsManyPiecesAsPlansSay) {
  const TemporaryDirectory directory;
  nlohmann::json tokenizer = nlohmann::json::parse(read_file(source_folder() + "/tests/golden/byte-level.json"))["tokenizer"];
  nlohmann::json& pieces = tokenizer["model"]["vocab"];
  int next = 0;
  for (const auto& piece : pieces) next = std::max(next, piece.get<int>() + 1);
  for (const auto& piece : tokenizer["added_tokens"]) next = std::max(next, piece["id"].get<int>() + 1);
  for (; next < 70'000; ++next) pieces[std::to_string(next) + std::string(600, 'x')] = next;
  directory.file("tokenizer.json", tokenizer.dump());
  const ProgramResult result = run_program_in(
      directory, "neurogen-engine generate --tokenizer tokenizer.json --init " + source_folder() + "/tests/pretrained/llama");
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("cap of 65,714,176 bytes"), std::string::npos) << result.err;
}

}  // namespace
}  // namespace neurogen
