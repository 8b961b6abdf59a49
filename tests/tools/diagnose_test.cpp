// diagnose: the printed figures are consistent.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

TEST(Diagnose, TimesAddUpAndTheOldWayChurns) {
  TemporaryDirectory directory;
  directory.file("brain.json", kTestBrain);
  directory.file("text.bin", std::string(20'000, '\1'));
  const std::string command = "neurogen-engine diagnose --arch brain.json --batch 4 --seq 32 --repeats 2 --device cpu --threads 1 ";
  const ProgramResult result = run_program_in(directory, command + "--json");
  ASSERT_EQ(result.status, 0) << result.err;
  const auto out = nlohmann::json::parse(result.out);
  for (const char* way : {"token_by_token", "batched"}) {
    const auto value = [&](const char* row) { return out["rows"][row][way].get<double>(); };
    double parts = 0;
    for (const char* part : {"input", "copying", "launching_and_waiting", "allocating", "computing", "updating"}) {
      EXPECT_GE(value(part), 0) << way << part;
      parts += value(part);
    }
    EXPECT_LE(parts, value("time") * 1.0001) << way;
    EXPECT_GT(parts, value("time") * 0.5) << way;
    EXPECT_NEAR(value("tokens_per_s"), 32 / value("time") * 1e3, 1e-6 * value("tokens_per_s"));
    EXPECT_GT(value("cpu_use"), 0);
  }
  // Two vectors per token; the batched step allocates nothing on the heap.
  EXPECT_EQ(out["rows"]["heap_allocations"]["token_by_token"], 64);
  EXPECT_EQ(out["rows"]["heap_allocations"]["batched"], 0);
  // Three times the embedding's row and the logits, for each of 32 tokens.
  EXPECT_EQ(out["rows"]["bytes_churned"]["token_by_token"], 32 * 3 * (32 * 4 + 300 * 4));
  EXPECT_GT(out["rows"]["updating"]["batched"], 0);
  EXPECT_FALSE(out["change"].get<std::string>().empty());
  const ProgramResult table = run_program_in(directory, command + "--data text.bin");
  EXPECT_EQ(table.status, 0) << table.err;
  EXPECT_NE(table.out.find("trained on text.bin"), std::string::npos) << table.out;
  EXPECT_NE(table.out.find("-bound: "), std::string::npos) << table.out;
}

}  // namespace
}  // namespace neurogen
