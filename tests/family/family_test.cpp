// A second family of models, bigram_family.cpp, goes through the ordinary programs' code without an edit anywhere else: the program
// is neurogen-engine's objects and that file.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using nlohmann::json;
using std::string;

class Family : public testing::Test {
 protected:
  Family() {
    make_numbered_text(directory_, " has the number ", "\n");
    directory_.file("bigram.json", R"({"family": "bigram", "name": "two", "vocabulary": 300, "width": 64})");
  }
  string run(const string& arguments, int status = 0) const {
    const ProgramResult result = run_program_in(directory_, "../tests/neurogen-engine-with-bigrams " + arguments);
    EXPECT_EQ(result.status, status) << arguments << "\n" << result.err << result.out;
    return status == 0 ? result.out : result.err;
  }
  string train(const string& arguments) const {
    return run("train --arch bigram.json --data text.txt --tokenizer t.model --batch 4 --seq 32 --device cpu --progress none " + arguments);
  }
  double loss_of(const string& weights) const {
    const string table = run("eval " + weights + " --data text.txt --batch 4 --seq 32");
    const auto at = table.find("two ");
    EXPECT_NE(at, string::npos) << table;
    return at == string::npos ? 0 : std::stod(table.substr(at + 24));
  }
  TemporaryDirectory directory_;
};

TEST_F(Family, IsPlannedToTheByte) {
  const auto plan = json::parse(run("plan --arch bigram.json --device cpu --batch 4 --seq 32 --json"));
  EXPECT_TRUE(plan["fits"]);
  const string budget = std::to_string(plan["minimum_budget_bytes"].get<std::uint64_t>());
  const string one_less = std::to_string(plan["minimum_budget_bytes"].get<std::uint64_t>() - 1);
  train("--steps 2 --export a.safetensors --budget " + budget);
  const string refused = run("train --arch bigram.json --data text.txt --tokenizer t.model --batch 4 --seq 32 --device cpu --budget " + one_less, 2);
  EXPECT_NE(refused.find("settings that would fit"), string::npos) << refused;
  EXPECT_NE(run("plan --arch bigram.json --device cpu --fit --budget 200M").find("\"family\":\"bigram\""), string::npos);
}

TEST_F(Family, LearnsEvaluatesAndSpeaks) {
  train("--steps 5 --export few.safetensors");
  const string summary = train("--steps 300 --export many.safetensors --valid text.txt --log log.jsonl");
  EXPECT_NE(summary.find("allocations since the seal: 0"), string::npos) << summary;
  const double few = loss_of("--init few.safetensors"), many = loss_of("--init many.safetensors");
  EXPECT_LT(many, few - 1);
  EXPECT_LT(many, 2.5);  // a bigram of this text has about 2
  EXPECT_GT(run("generate --init many.safetensors --prompt line --max-tokens 20").size(), 10u);
  EXPECT_NE(run("report log.jsonl --out report.html").size(), 0u);
  run("bench --arch bigram.json --device cpu --batch 2 --seq 16 --repeats 1 --json");
}

TEST_F(Family, IsSavedAndResumedBitForBit) {
  train("--steps 40 --checkpoint-dir whole --save-every 20");
  train("--steps 40 --checkpoint-dir parts --save-every 20");
  std::filesystem::remove(directory_.path("parts/step-000000040.ngck"));
  train("--steps 40 --checkpoint-dir parts --save-every 20 --resume");
  EXPECT_EQ(read_file(directory_.path("whole/step-000000040.ngck")), read_file(directory_.path("parts/step-000000040.ngck")));
  EXPECT_EQ(json::parse(run("inspect parts --json --verify"))["architecture"]["family"], "bigram");
  EXPECT_NEAR(loss_of("--checkpoint parts"), loss_of("--checkpoint whole"), 0);
  // The program that does not know the family says so.
  const ProgramResult unknown = run_program_in(directory_, "neurogen-engine eval --checkpoint parts --data text.txt");
  EXPECT_EQ(unknown.status, 2);
  EXPECT_NE(unknown.err.find("family is \"bigram\": use brain"), string::npos) << unknown.err;
}

}  // namespace
}  // namespace neurogen
