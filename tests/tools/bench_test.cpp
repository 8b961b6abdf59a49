// bench: the printed figures are consistent.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

TEST(Bench, ComparesAStepWithLimitsAndWithTheSlowWays) {
  TemporaryDirectory directory;
  directory.file("brain.json", kTestBrain);
  const ProgramResult result = run_program_in(
      directory, "neurogen-engine bench --arch brain.json --batch 8 --seq 64 --repeats 1 --device cpu --compare --json");
  ASSERT_EQ(result.status, 0) << result.err;
  const auto out = nlohmann::json::parse(result.out);
  EXPECT_EQ(out["tokens_per_step"], 512);
  const double products = out["product_flops_per_s"], copies = out["copy_bytes_per_s"], step = out["step_seconds"];
  EXPECT_GT(products, 1e8);
  EXPECT_GT(copies, 1e7);
  EXPECT_DOUBLE_EQ(out["step_over_decoder_products"], step / out["decoder_products_seconds"].get<double>());
  double floors = 0, share = 0;
  for (const auto& operation : out["operations"]) {
    const double floor = operation["floor_seconds"], flops = operation["flops"], bytes = operation["bytes"];
    EXPECT_GE(floor, std::max(flops / products, bytes / copies) * (1 - 1e-9)) << operation["name"];
    EXPECT_LE(floor, (flops / products + bytes / copies) * (1 + 1e-9)) << operation["name"];
    floors += floor, share += operation["share"].get<double>();
  }
  EXPECT_NEAR(floors, out["floor_seconds"], 1e-9 * floors);
  EXPECT_NEAR(share, 1, 1e-9);
  for (const char* way : {"one_window_at_a_time", "one_token_at_a_time"}) {
    const double rate = out[way]["tokens_per_s"], batched = out[way]["batched_tokens_per_s"];
    EXPECT_GT(rate, 0) << way;
    EXPECT_DOUBLE_EQ(out[way]["ratio"], batched / rate) << way;
  }
}

}  // namespace
}  // namespace neurogen
