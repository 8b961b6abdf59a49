// A user's first training run: the model is kept, knows its tokenizer, shows its progress; typing errors are named.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using nlohmann::json;
using std::string;

class FirstRun : public testing::Test {
 protected:
  FirstRun() { make_numbered_text(directory_, " has the number ", "\n"); }
  ProgramResult run(const string& command) const { return run_program_in(directory_, command); }
  ProgramResult train(const string& arguments, const string& data = "--data text.txt --tokenizer t.model ") const {
    return run("neurogen-engine --arch brain.json --batch 2 --seq 16 --threads 1 " + data + arguments);
  }
  bool exists(const string& name) const { return std::filesystem::exists(directory_.path(name)); }
  std::vector<json> events(const string& log, const string& event) const {
    std::vector<json> found;
    std::istringstream lines(read_file(directory_.path(log)));
    for (string line; std::getline(lines, line);)
      if (const json object = json::parse(line); object["event"] == event) found.push_back(object);
    return found;
  }
  TemporaryDirectory directory_;
};

TEST_F(FirstRun, TheModelIsKeptUnderANameOfItsOwn) {
  const ProgramResult first = train("--steps 2 --progress none");
  ASSERT_EQ(first.status, 0) << first.err;
  EXPECT_NE(first.out.find("the model is in neurogen-test.safetensors"), string::npos) << first.out;
  const string kept = read_file(directory_.path("neurogen-test.safetensors"));
  ASSERT_EQ(train("--steps 3 --progress none").status, 0);
  EXPECT_TRUE(exists("neurogen-test-2.safetensors"));
  EXPECT_EQ(read_file(directory_.path("neurogen-test.safetensors")), kept) << "an earlier model was overwritten";
  ASSERT_EQ(train("--steps 2 --progress none --checkpoint-dir saved").status, 0);
  EXPECT_FALSE(exists("neurogen-test-3.safetensors")) << "the checkpoint is enough";
  // Two runs at once, which both found the name free.
  const string both =
      "--arch brain.json --batch 2 --seq 16 --threads 1 --data text.txt --tokenizer t.model --progress none --steps ";
  const string engine = programs_folder() + "/neurogen-engine " + both;
  const ProgramResult two = run("corpus --version && ( " + engine + "150 & " + engine + "60; wait )");
  EXPECT_TRUE(exists("neurogen-test-3.safetensors"));
  EXPECT_TRUE(exists("neurogen-test-4.safetensors")) << "one run's model replaced the other's: " << two.out << two.err;
}

TEST_F(FirstRun, WeightsCarryTheirTokenizer) {
  ASSERT_EQ(train("--steps 4 --progress none --export w.safetensors").status, 0);
  ASSERT_EQ(train("--steps 4 --progress none --checkpoint-dir saved").status, 0);
  ASSERT_EQ(run("neurogen-engine export --checkpoint saved --safetensors e.safetensors").status, 0);
  const string named = run("neurogen-engine generate --init w.safetensors --tokenizer t.model --prompt line --max-tokens 9").out;
  EXPECT_NE(named, "");
  for (const char* weights : {"--init w.safetensors", "--checkpoint saved", "--init e.safetensors"}) {
    const ProgramResult said = run("neurogen-engine generate --prompt line --max-tokens 9 " + string(weights));
    EXPECT_EQ(said.status, 0) << said.err;
    EXPECT_EQ(said.out, named) << weights;
    const ProgramResult evaluated = run("neurogen-engine eval --data text.txt --seq 16 " + string(weights));
    EXPECT_EQ(evaluated.status, 0) << evaluated.err;
    EXPECT_NE(evaluated.out.find("bits per byte"), string::npos) << weights;
  }
  // Fine-tuning them needs neither the architecture nor the tokenizer.
  const ProgramResult on =
      run("neurogen-engine train --init w.safetensors --data text.txt --steps 1 --batch 2 --seq 16 --progress none --export "
          "on.safetensors");
  EXPECT_EQ(on.status, 0) << on.err;
  EXPECT_EQ(run("neurogen-engine generate --init on.safetensors --prompt line --max-tokens 1").status, 0);
  // Another tokenizer is refused, and weights without one are reported.
  ASSERT_EQ(run("corpus train-tokenizer text.txt --vocabulary 290 --out other.model").status, 0);
  for (const char* weights : {"--init w.safetensors", "--checkpoint saved"}) {
    const ProgramResult wrong = run("neurogen-engine generate --tokenizer other.model --prompt line " + string(weights));
    EXPECT_EQ(wrong.status, 2);
    EXPECT_NE(wrong.err.find("was trained with another tokenizer"), string::npos) << wrong.err;
  }
  ASSERT_EQ(run("corpus tokenize text.txt --tokenizer t.model --out text.bin").status, 0);
  ASSERT_EQ(train("--steps 1 --progress none --export none.safetensors", "--data text.bin ").status, 0);
  const ProgramResult none = run("neurogen-engine chat --init none.safetensors");
  EXPECT_EQ(none.status, 2);
  EXPECT_NE(none.err.find("carry no tokenizer"), string::npos) << none.err;
}

TEST_F(FirstRun, TokensFromCorpusMakeBringTheirTokenizer) {
  ASSERT_EQ(run("corpus make text.txt --tokenizer t.model --out my").status, 0);
  ASSERT_EQ(train("--steps 1 --progress none --export w.safetensors", "--data my-train.bin ").status, 0);
  EXPECT_EQ(run("neurogen-engine generate --init w.safetensors --prompt line --max-tokens 1").status, 0);
  // A tokenizer that is gone or has changed is not used.
  ASSERT_EQ(run("corpus train-tokenizer text.txt --vocabulary 290 --out t.model").status, 0);
  ASSERT_EQ(train("--steps 1 --progress none --export none.safetensors", "--data my-train.bin ").status, 0);
  EXPECT_EQ(run("neurogen-engine generate --init none.safetensors --prompt line --max-tokens 1").status, 2);
}

TEST_F(FirstRun, HeldOutLossesAreMeasuredTenTimesAndShown) {
  const ProgramResult result = train("--steps 400 --valid text.txt --log run.jsonl --progress plain");
  ASSERT_EQ(result.status, 0) << result.err;
  const auto evaluations = events("run.jsonl", "eval");
  ASSERT_EQ(evaluations.size(), 10u);
  for (std::size_t i = 0; i < 10; ++i) EXPECT_EQ(evaluations[i]["step"], 40 * (i + 1));
  EXPECT_LT(evaluations[0]["tokens"], evaluations[9]["tokens"]);
  EXPECT_EQ(evaluations[0]["tokens"], evaluations[8]["tokens"]);
  EXPECT_LT(evaluations[9]["valid_loss"], evaluations[0]["valid_loss"]);
  std::size_t shown = 0;
  for (std::size_t at = 0; (at = result.err.find("  held-out loss ", at)) != string::npos; ++at) ++shown;
  EXPECT_EQ(shown, 10u) << result.err;
  // The memory table leaves room for the following lines on the same screen.
  EXPECT_LT(std::count(result.out.begin(), result.out.end(), '\n'), 24);
}

TEST_F(FirstRun, MinutesAreALimitThatTheScheduleMeets) {
  ASSERT_EQ(train("--minutes 0.03 --valid text.txt --log run.jsonl --progress none").status, 0);
  const auto steps = events("run.jsonl", "step");
  ASSERT_GT(steps.size(), 20u) << "a machine this slow tells nothing";
  double most = 0;
  for (const json& step : steps) most = std::max(most, step["lr"].get<double>());
  EXPECT_LT(steps.back()["lr"], 0.25 * most) << "the rate had not come down";
  EXPECT_EQ(events("run.jsonl", "eval").back()["step"], steps.size());
}

TEST_F(FirstRun, SlipsAreNamedWithWhatWasMeant) {
  const std::pair<const char*, const char*> slips[] = {
      {"neurogen-engine train --bacth 3", "--bacth is not known here, perhaps --batch is meant: see neurogen-engine train --help"},
      {"neurogen-engine --evalevery 3", "perhaps --eval-every is meant: see neurogen-engine train --help"},
      {"neurogen-engine trian", "trian is not known here, perhaps train is meant: see neurogen-engine --help"},
      {"neurogen-engine eval --frobnicate", "--frobnicate is not known here: see neurogen-engine eval --help"},
      {"neurogen-engine train --minutes 1m", "--minutes: \"1m\" is not a decimal number: see neurogen-engine train --help"},
      {"neurogen-engine train --minutes 0", "--minutes: 0: use a number above 0: see"},
      {"neurogen-engine train --eval-every -1", "--eval-every: -1: use 0 or more: see"},
      {"neurogen-engine train --save-every 5", "--save-every requires --checkpoint-dir: see neurogen-engine train --help"},
      {"neurogen-engine train --checkpoint-dir saved --convert", "--convert requires --resume: see"},
      {"plan --arch tiny --arch small", "--arch is given twice: see plan --help"},
      {"corpus make text.txt --tokenizer t.model --out ./", "--out ./ is the beginning of three files' names: name it, as in ./my"},
      {"corpus tokenize text.txt --tokenizer t.model --out ''", "the name of a file to write is empty: name one"},
      {"corpus tokenise text.txt", "perhaps tokenize is meant: see corpus --help"},
      {"plan --budgte 3G", "perhaps --budget is meant: see plan --help"},
      {"plan --arch tinny", "--arch is \"tinny\": use full, small, tiny, qwen2.5-0.5b, smollm2-360m,"},
      {"neurogen-engine --data text.txt --tokenizer t.model --arch brain.json --export my.gguf",
       "a file that ends in .safetensors"},
      {"neurogen-engine export --checkpoint none --safetensors my.bin", "a file that ends in .safetensors"},
  };
  for (const auto& [command, part] : slips) {
    const ProgramResult result = run(command);
    EXPECT_EQ(result.status, 2) << command;
    EXPECT_NE(result.err.find(part), string::npos) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
}

TEST_F(FirstRun, ASmallBudgetIsAdvisedToLeaveLessToLibraries) {
  const ProgramResult refused = run("plan --arch tiny --device cpu --threads 2 --batch 16 --seq 64 --budget 80M");
  EXPECT_EQ(refused.status, 2);
  const auto at = refused.err.find("--seq 64 --overhead ");
  ASSERT_NE(at, string::npos) << refused.err;
  const string advice = refused.err.substr(at, refused.err.find('\n', at) - at);
  EXPECT_EQ(run("plan --arch tiny --device cpu --threads 2 --budget 80M " + advice).status, 0) << advice;
  const ProgramResult trained =
      run("neurogen-engine --arch tiny --device cpu --threads 2 --budget 80M --data text.txt --tokenizer "
          "t.model --steps 1 --progress none --batch 4 --seq 64 --overhead 20M");
  EXPECT_EQ(trained.status, 0) << trained.err;
}

}  // namespace
}  // namespace neurogen
