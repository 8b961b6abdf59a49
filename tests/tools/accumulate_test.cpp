// Steps in several micro-batches as a user meets them: planned to the byte, trained, resumed in another split, refused.
#include "tests/tools/command_line.h"

namespace neurogen {
namespace {

class AccumulateCommand : public CommandLine {
 protected:
  AccumulateCommand() { directory_.file("transformer.json", kTransformer); }
  std::vector<json> events(const string& name, const string& event) const {
    std::vector<json> list;
    for (const json& line : log(name)) {
      if (line["event"] == event) list.push_back(line);
    }
    return list;
  }
  string train_as(const string& arguments) const {
    const ProgramResult result =
        run("neurogen-engine train " + arguments + " --seq 16 --threads 2 --data text.bin --progress none");
    EXPECT_EQ(result.status, 0) << arguments << "\n" << result.err;
    return result.out;
  }
  static constexpr const char* kTransformer =
      R"({"family": "transformer", "name": "small", "vocabulary": 300, "width": 32, "layers": 2, "heads": 2, "hidden": 64,
          "context": 32, "norm": "rms", "positions": "rotary", "activation": "relu2", "qk_norm": true, "qkv_bias": false,
          "bias": false, "tied": false, "embedding_norm": true, "norm_eps": 1e-5})";
};

TEST_F(AccumulateCommand, TrainsLikeTheBatchAtOnce) {
  for (const string model : {"brain.json", "transformer.json"}) {
    SCOPED_TRACE(model);
    const string common = "--arch " + model + " --steps 12 --valid valid.bin --eval-every 6 ";
    train_as(common + "--batch 6 --log whole.jsonl");
    const string out = train_as(common + "--batch 1 --accumulate 6 --log parts.jsonl");
    EXPECT_NE(out.find("1,152 tokens in"), string::npos) << out;
    EXPECT_NE(out.find("allocations since the seal: 0"), string::npos) << out;
    const auto whole = events("whole.jsonl", "step"), parts = events("parts.jsonl", "step");
    ASSERT_EQ(parts.size(), 12u);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      EXPECT_EQ(parts[i]["tokens"], 96 * (i + 1));
      EXPECT_EQ(parts[i]["host_allocations"], 0);
      EXPECT_NEAR(parts[i]["loss"].get<double>(), whole[i]["loss"].get<double>(), 2e-3);
    }
    EXPECT_EQ(events("parts.jsonl", "start")[0]["plan"]["tokens_per_step"], 96);
    EXPECT_EQ(events("parts.jsonl", "eval").size(), 2u);
  }
}

TEST_F(AccumulateCommand, IsPlannedToTheByte) {
  for (const string model : {"brain.json", "transformer.json"}) {
    const string step = "--arch " + model + " --batch 2 --accumulate 4 ";
    const json plan = json::parse(run("plan --json --seq 16 --threads 2 " + step).out);
    EXPECT_EQ(plan["tokens_per_step"], 128);
    const long minimum = plan["minimum_budget_bytes"].get<long>();
    train_as(step + "--steps 2 --budget " + std::to_string(minimum));
    const ProgramResult refused =
        run("neurogen-engine train --data text.bin --seq 16 --threads 2 " + step + "--budget " + std::to_string(minimum - 1));
    EXPECT_EQ(refused.status, 2);
    EXPECT_NE(refused.err.find("4 x 2 x 16 = 128 tokens a step"), string::npos) << refused.err;
  }
  const ProgramResult bench = run("neurogen-engine bench --repeats 1 --accumulate 3 --compare --json " + kBrain);
  EXPECT_EQ(bench.status, 0) << bench.err;
  EXPECT_EQ(json::parse(bench.out)["tokens_per_step"], 96);
}

TEST_F(AccumulateCommand, ResumesInAnotherSplitOfTheSameStep) {
  const string common = "--arch brain.json --steps 8 --checkpoint-dir ";
  train_as(common + "whole --batch 6 --save-every 4 --log whole.jsonl");
  train_as(common + "parts --batch 2 --accumulate 3 --save-every 4 --log parts.jsonl");
  EXPECT_EQ(json::parse(run("neurogen-engine inspect parts --json").out)["accumulate"], 3);
  std::filesystem::remove(directory_.path("parts/step-000000008.ngck"));
  train_as(common + "parts --batch auto --accumulate 6 --resume --log parts.jsonl");
  EXPECT_EQ(json::parse(run("neurogen-engine inspect parts --json").out)["batch"], 1);
  const auto whole = events("whole.jsonl", "step"), parts = events("parts.jsonl", "step");
  ASSERT_EQ(parts.size(), 8u);
  for (std::size_t i = 0; i < parts.size(); ++i) EXPECT_NEAR(parts[i]["loss"].get<double>(), whole[i]["loss"].get<double>(), 2e-3);
  EXPECT_FALSE(std::filesystem::exists(directory_.path("parts.jsonl.1")));  // the same run's log goes on
  refuses_training("--checkpoint-dir parts --resume --steps 8 --accumulate 4",
                   "was trained with --batch times --accumulate of 6, now it is 8");
}

TEST_F(AccumulateCommand, RefusesWhatMakesNoSense) {
  refuses_training("--accumulate 0", "--accumulate is 0: use 1 to 1048576 batches per step");
  refuses_training("--accumulate 100", "the training text has 1000 tokens, a batch of 200 windows needs 3201");
  refuses("neurogen-engine eval --init w --accumulate 2 --data text.bin", "--accumulate");
}

}  // namespace
}  // namespace neurogen
