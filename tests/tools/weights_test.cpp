// Training on several texts with weights, through the command line.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/data/draws.h"
#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using std::string;

class WeightsTest : public testing::Test {
 protected:
  WeightsTest() {
    directory_.file("brain.json", kTestBrain);
    for (const char* name : {"a", "b", "c:3"}) {
      string ids;
      for (int i = 0; i < 700; ++i) ids += {static_cast<char>((i * i + name[0]) % 97), 0};
      directory_.file(string(name) + ".bin", ids);
    }
  }
  ProgramResult train(const string& arguments) const {
    return run_program_in(directory_,
                          "neurogen-engine train --arch brain.json --batch 2 --seq 16 --threads 1 --progress none " + arguments);
  }
  std::vector<string> losses(const string& log) const {
    std::vector<string> list;
    std::istringstream lines(read_file(directory_.path(log)));
    for (string line; std::getline(lines, line);) {
      const auto event = nlohmann::json::parse(line);
      if (event["event"] == "step") list.push_back(event["loss"].dump());
    }
    return list;
  }
  TemporaryDirectory directory_;
};

TEST_F(WeightsTest, ARunGoesOnBitForBit) {
  const string run = "--data a.bin:2 --data b.bin --steps 8 --log ";
  ASSERT_EQ(train(run + "whole").status, 0);
  ASSERT_EQ(train("--data a.bin b.bin --steps 8 --log plain").status, 0);
  EXPECT_NE(losses("whole"), losses("plain"));
  // Simulates a run killed after its checkpoint of step 3.
  ASSERT_EQ(train(run + "cut --checkpoint-dir saved --save-every 3").status, 0);
  for (const char* later : {"step-000000006.ngck", "step-000000008.ngck"})
    std::filesystem::remove(directory_.path(string("saved/") + later));
  ASSERT_EQ(train(run + "cut --checkpoint-dir saved --resume").status, 0);
  EXPECT_EQ(losses("cut"), losses("whole"));
  for (const auto& [data, was] : {std::pair{"a.bin:3 b.bin", "2:1, now it is 3:1"},
                                  {"a.bin b.bin", "2:1, now it is none"},
                                  {"b.bin:2 a.bin", "was trained on a text of"}}) {
    const ProgramResult refused = train(string("--data ") + data + " --steps 8 --checkpoint-dir saved --resume");
    EXPECT_EQ(refused.status, 2);
    EXPECT_NE(refused.err.find(was), string::npos) << refused.err;
  }
  const ProgramResult inspected = run_program_in(directory_, "neurogen-engine inspect saved --json");
  EXPECT_EQ(nlohmann::json::parse(inspected.out)["text_weights"], (std::vector<int>{2, 1}));
}

TEST_F(WeightsTest, AreWholeNumbersBehindAColon) {
  for (const char* wrong : {"a.bin:", "a.bin:0", "a.bin:-1", "a.bin:1000001", "a.bin:1.5", "a.bin:two"}) {
    const ProgramResult refused = train(string("--steps 1 --data ") + wrong);
    EXPECT_EQ(refused.status, 2) << wrong;
    EXPECT_NE(refused.err.find("a whole number from 1 to 1000000"), string::npos) << refused.err;
  }
  EXPECT_EQ(train("--steps 1 --data c:3.bin").status, 0);
  std::filesystem::rename(directory_.path("c:3.bin"), directory_.path("c:3"));
  EXPECT_NE(train("--steps 1 --data c:3").err.find("give --tokenizer"), string::npos);  // a file of that very name, not a .bin file
}

// A very long text is checked at sampled places in advance, and wherever it is drawn from.
TEST_F(WeightsTest, ATokenThatIsNoneIsFoundWhenItIsDrawn) {
  const string path = directory_.path("long.bin");
  directory_.file("long.bin", "");
  std::error_code error;
  std::filesystem::resize_file(path, (std::uint64_t{1} << 30) + 2'000'000, error);
  if (error) GTEST_SKIP() << "no room: " << error.message();
  const std::int64_t begin = Draws(Tokens({path}, nullptr), 16, 2, 1).begin(3, 1);
  std::fstream(path, std::ios::in | std::ios::out | std::ios::binary).seekp(2 * (begin + 5)).write("\x2C\1", 2);
  EXPECT_EQ(train("--steps 3 --data long.bin").status, 0);
  const ProgramResult result = train("--steps 20 --data long.bin");
  EXPECT_EQ(result.status, 1) << result.out;
  EXPECT_NE(result.err.find("the text has token 300 among the 17 from position " + std::to_string(begin) + " on"), string::npos)
      << result.err;
}

}  // namespace
}  // namespace neurogen
