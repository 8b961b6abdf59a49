// train --snapshot as a user meets it: the plan, the files, and the reports and their order.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using nlohmann::json;
using std::string;

class SnapshotOption : public testing::Test {
 protected:
  SnapshotOption() {
    directory_.file("brain.json", kTestBrain);
    string ids;
    for (int i = 0; i < 1000; ++i) ids += {static_cast<char>(i * i % 7 * 20 + i % 11), 0};
    directory_.file("text.bin", ids);
  }
  ProgramResult run(const string& command) const { return run_program_in(directory_, command); }
  ProgramResult train(const string& options) const {
    return run("neurogen-engine train " + kStep + "--data text.bin --progress none " + options);
  }
  std::vector<json> log(const string& name) const {
    std::vector<json> lines;
    std::istringstream text(read_file(directory_.path(name)));
    for (string line; std::getline(text, line);) lines.push_back(json::parse(line));
    return lines;
  }
  const string kStep = "--arch brain.json --batch 2 --seq 16 --threads 2 --device cpu ";
  TemporaryDirectory directory_;
};

TEST_F(SnapshotOption, IsPlannedToTheByteAndKeptInsideTheBudget) {
  const json plan = json::parse(run("plan --json --snapshot " + kStep).out), without = json::parse(run("plan --json " + kStep).out);
  const auto bytes = plan["snapshot"]["bytes"].get<long>();
  EXPECT_EQ(plan["snapshot"]["in_budget"], true);
  for (const char* sum : {"total_bytes", "minimum_budget_bytes", "lower_bound_bytes"}) {
    EXPECT_EQ(plan[sum].get<long>(), without[sum].get<long>() + bytes) << sum;
  }
  const json gpu = json::parse(run("plan --json --snapshot --arch brain.json --device cuda").out);
  EXPECT_EQ(gpu["snapshot"]["in_budget"], false);
  EXPECT_EQ(gpu["total_bytes"], json::parse(run("plan --json --arch brain.json --device cuda").out)["total_bytes"]);

  const ProgramResult trained = train("--steps 2 --checkpoint-dir saved --log l.jsonl --snapshot");
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_EQ(log("l.jsonl")[0]["plan"], plan);
  EXPECT_NE(trained.out.find("\nsnapshot (ordinary memory) "), string::npos) << trained.out;
  const auto image = json::parse(run("neurogen-engine inspect saved --json").out)["image_bytes"].get<long>();
  EXPECT_EQ(bytes, image);

  const long minimum = plan["minimum_budget_bytes"].get<long>();
  EXPECT_EQ(train("--steps 2 --checkpoint-dir least --snapshot --budget " + std::to_string(minimum)).status, 0);
  const ProgramResult refused = train("--steps 2 --checkpoint-dir less --snapshot --budget " + std::to_string(minimum - 1));
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("\nsnapshot (ordinary memory) "), string::npos) << refused.err;
  EXPECT_NE(refused.err.find("--budget " + std::to_string(minimum) + "  (the minimum "), string::npos) << refused.err;
}

TEST_F(SnapshotOption, NeedsADirectory) {
  const ProgramResult result = train("--steps 2 --snapshot");
  EXPECT_EQ(result.status, 2);
  EXPECT_EQ(result.err, "neurogen-engine: --snapshot needs checkpoints to save: name their directory with --checkpoint-dir DIR\n");
}

TEST_F(SnapshotOption, WritesTheSameFilesAndReportsEachOnce) {
  const string options = "--steps 20 --save-every 3 --keep 2 --keep-best --valid text.bin --checkpoint-dir ";
  ASSERT_EQ(train(options + "plain --log plain.jsonl").status, 0);
  const ProgramResult result = train(options + "beside --log beside.jsonl --snapshot");
  ASSERT_EQ(result.status, 0) << result.err;
  EXPECT_NE(result.out.find("the newest checkpoint is beside/step-000000020.ngck"), string::npos) << result.out;
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory_.path("plain"))) {
    ++files;
    EXPECT_TRUE(read_file(entry.path()) == read_file(directory_.path("beside/" + entry.path().filename().string())))
        << entry.path();
  }
  EXPECT_GE(files, 3);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory_.path("beside")), {}), files);
  const auto saves = [&](const string& name) {
    std::vector<std::int64_t> steps;
    for (const json& line : log(name)) {
      if (line["event"] != "checkpoint") continue;
      steps.push_back(line["step"]);
      EXPECT_GT(line["ms"], 0.0);
      EXPECT_GT(line["pause_ms"], 0.0);
    }
    return steps;
  };
  EXPECT_EQ(saves("beside.jsonl"), (std::vector<std::int64_t>{3, 6, 9, 12, 15, 18, 20}));
  EXPECT_EQ(saves("beside.jsonl"), saves("plain.jsonl"));
}

// However a run ends, it first reports a save that it has begun.
TEST_F(SnapshotOption, ValuesThatAreNotFiniteEndTheRun) {
  const ProgramResult result = train(
      "--steps 300 --lr 1000 --synapse-lr 1000 --table-lr 1000 --decoder-lr 1000 --warmup 0 --checkpoint-dir saved "
      "--save-every 1 --keep 1 --snapshot --log l.jsonl");
  EXPECT_EQ(result.status, 1);
  EXPECT_NE(result.err.find("not finite: train with a lower --lr"), string::npos) << result.err;
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  const json all = json::parse(run("neurogen-engine inspect saved --json --verify").out);
  for (const json& tensor : all["tensors"]) EXPECT_TRUE(tensor["range"].is_array()) << tensor["name"];
  std::int64_t told = 0;
  for (const json& line : log("l.jsonl")) told = line["event"] == "checkpoint" ? line["step"].get<std::int64_t>() : told;
  EXPECT_EQ(told, all["steps"]);
}

}  // namespace
}  // namespace neurogen
