// A transformer through the ordinary programs: planned to the byte, trained, resumed bit for bit, exported, spoken with.
#include "tests/tools/command_line.h"

namespace neurogen {
namespace {

// Tied, with learned positions and grouped keys, so trained by AdamW; the untied one by Muon.
constexpr char kTied[] = R"({"family": "transformer", "name": "tied", "vocabulary": 300, "width": 64, "layers": 2, "heads": 4,
  "key_value_heads": 2, "hidden": 128, "context": 48, "norm": "layer", "positions": "learned", "activation": "gelu_tanh",
  "qk_norm": false, "qkv_bias": true, "bias": true, "tied": true, "embedding_norm": false})";
constexpr char kUntied[] = R"({"family": "transformer", "name": "untied", "vocabulary": 300, "width": 64, "layers": 2, "heads": 2,
  "hidden": 128, "context": 256, "norm": "rms", "positions": "rotary", "activation": "relu2", "qk_norm": true,
  "qkv_bias": false, "bias": false, "tied": false, "embedding_norm": true})";

class Transformers : public testing::TestWithParam<const char*> {
 protected:
  Transformers() {
    make_numbered_text(directory_, " has the number ", "\n");
    directory_.file("tied.json", kTied);
    directory_.file("untied.json", kUntied);
  }
  string run(const string& arguments, int status = 0) const {
    const ProgramResult result = run_program_in(directory_, "neurogen-engine " + arguments);
    EXPECT_EQ(result.status, status) << arguments << "\n" << result.err << result.out;
    return status == 0 ? result.out : result.err;
  }
  string train(const string& arguments, int status = 0) const {
    return run("train " + kShape + "--data text.txt --tokenizer t.model --progress none " + arguments, status);
  }
  double loss_of(const string& weights) const {
    const string table = run("eval " + weights + " --data text.txt --batch 4 --seq 32");
    const auto at = table.find('\n' + string(GetParam()) + ' ');
    EXPECT_NE(at, string::npos) << table;
    return at == string::npos ? 0 : std::stod(table.substr(at + 25));
  }
  const string kShape = "--arch " + string(GetParam()) + ".json --batch 4 --seq 32 --device cpu --threads 2 ";
  TemporaryDirectory directory_;
};

TEST_P(Transformers, ArePlannedToTheByte) {
  const auto plan = json::parse(run("plan " + kShape + "--json"));
  EXPECT_TRUE(plan["fits"]);
  const auto minimum = plan["minimum_budget_bytes"].get<std::uint64_t>();
  EXPECT_LT(minimum, plan["total_bytes"].get<std::uint64_t>());  // by computing blocks twice
  train("--steps 2 --export a.safetensors --budget " + std::to_string(minimum));
  const string refused = train("--budget " + std::to_string(minimum - 1), 2);
  EXPECT_NE(refused.find("settings that would fit"), string::npos) << refused;
  EXPECT_NE(run("plan " + kShape + "--fit --budget 200M").find("\"family\":\"transformer\""), string::npos);
  run("plan --seq 32 --compare " + string(GetParam()) + ".json tiny");
}

TEST_P(Transformers, LearnEvaluateAndSpeak) {
  train("--steps 5 --export few.safetensors");
  const string summary = train("--steps 150 --export many.safetensors --valid text.txt --log log.jsonl");
  EXPECT_NE(summary.find("allocations since the seal: 0"), string::npos) << summary;
  EXPECT_LT(loss_of("--init many.safetensors"), loss_of("--init few.safetensors") - 1);
  const string log = read_file(directory_.path("log.jsonl"));  // of the hidden layers
  for (const char* layer : {R"("layers.0":{"mean":)", R"("layers.1":{"mean":)"}) EXPECT_NE(log.find(layer), string::npos) << log;
  EXPECT_GT(run("generate --init many.safetensors --seq 32 --prompt line --max-tokens 20").size(), 10u);
  const ProgramResult chat =
      run_program_in(directory_, "neurogen-engine chat --init many.safetensors --seq 32 --max-tokens 9 < text.txt");
  EXPECT_EQ(chat.status, 0) << chat.err;
  run("report log.jsonl --out report.html");
  run("diagnose " + kShape + "--repeats 1");
  run("bench " + kShape + "--repeats 1 --json");
  // Fine-tuning: the weights of one run, and another optimizer where there is one.
  train("--steps 2 --init many.safetensors --optimizer adamw --export tuned.safetensors");
  EXPECT_LT(loss_of("--init tuned.safetensors"), loss_of("--init few.safetensors"));
}

TEST_P(Transformers, ContinueSeveralPromptsAtOnce) {
  train("--steps 20 --export w.safetensors");
  const string generate = "generate --init w.safetensors --device cpu --seq 32 --max-tokens 12 --stop 7 --seed 3 ";
  const string prompts = "--prompt line --prompt 'line 12 has' --prompt '' --prompt 'the number' --prompt x ";
  const string each[] = {run(generate + "--prompt line"), run(generate + "--prompt 'line 12 has'"), run(generate + "--prompt ''"),
                         run(generate + "--prompt 'the number'"), run(generate + "--prompt x")};
  string one_by_one;
  for (std::size_t i = 0; i < std::size(each); ++i) one_by_one += "== " + std::to_string(i + 1) + "\n" + each[i];
  const ProgramResult all = run_program_in(directory_, "neurogen-engine " + generate + prompts);
  EXPECT_EQ(all.out, one_by_one);
  EXPECT_NE(all.err.find("5 at once: "), string::npos) << all.err;
  EXPECT_NE(all.err.find("allocations meanwhile: 0"), string::npos) << all.err;
  // Where the budget has room for one alone, they wait for each other.
  const string refused = run(generate + prompts + "--budget 1M", 2), needs = " needs ";
  string least = refused.substr(refused.find(needs) + needs.size());
  least = least.substr(0, least.find(' '));
  std::erase(least, ',');
  const ProgramResult fewer = run_program_in(directory_, "neurogen-engine " + generate + prompts + "--budget " + least);
  EXPECT_EQ(fewer.out, one_by_one) << refused;
  EXPECT_NE(fewer.err.find("1 at once: "), string::npos) << fewer.err;
  EXPECT_NE(
      run("generate --init w.safetensors --device cpu --seq 32 --max-tokens 1000000000 " + prompts, 2).find("fewer --max-tokens"),
      string::npos);
  if (string(GetParam()) == "tied") {  // it knows 48 positions
    const ProgramResult cut = run_program_in(
        directory_, "neurogen-engine generate --init w.safetensors --device cpu --seq 32 --max-tokens 100 --prompt a --prompt b");
    EXPECT_EQ(cut.status, 0) << cut.err;
    EXPECT_NE(cut.err.find("2 of them ended with the positions that the model knows"), string::npos) << cut.err;
  }
  EXPECT_NE(run(generate + "--logprobs " + prompts, 2).find("--logprobs is for one prompt"), string::npos);
}

TEST_P(Transformers, AreSavedAndResumedBitForBit) {
  train("--steps 20 --checkpoint-dir whole --save-every 10");
  train("--steps 20 --checkpoint-dir parts --save-every 10");
  std::filesystem::remove(directory_.path("parts/step-000000020.ngck"));
  train("--steps 20 --checkpoint-dir parts --save-every 10 --resume");
  EXPECT_TRUE(read_file(directory_.path("whole/step-000000020.ngck")) == read_file(directory_.path("parts/step-000000020.ngck")));
  const auto inspected = json::parse(run("inspect parts --json --verify"));
  EXPECT_EQ(inspected["architecture"]["family"], "transformer");
  EXPECT_EQ(inspected["optimizer"], GetParam() == string("tied") ? "adamw" : "muon");
  run("export --checkpoint parts --safetensors weights.safetensors");
  EXPECT_EQ(loss_of("--init weights.safetensors"), loss_of("--checkpoint whole"));
  EXPECT_GT(run("generate --checkpoint parts --prompt line --seq 16 --max-tokens 10").size(), 10u);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Transformers, testing::Values("tied", "untied"),
                         [](const auto& test) { return string(test.param); });

class TransformerMistakes : public CommandLine {
 protected:
  TransformerMistakes() {
    make_numbered_text(directory_, " has the number ", "\n");
    directory_.file("tied.json", kTied);
    directory_.file("untied.json", kUntied);
  }
};

// Whatever is stored leanly: --resume takes it from the checkpoint and goes on bit for bit.
TEST_F(TransformerMistakes, LeanStorageIsResumedBitForBitAndRefusedOtherwise) {
  const std::string kTrained =
      "neurogen-engine train --data text.txt --tokenizer t.model --batch 2 --seq 16 --device cpu "
      "--progress none --arch tied.json --steps 6 ";
  const std::string kLean = "--save-every 3 --weights 16bit --moments 8bit --updates backward ";
  ASSERT_EQ(run(kTrained + kLean + "--checkpoint-dir whole").status, 0);
  ASSERT_EQ(run(kTrained + kLean + "--checkpoint-dir parts").status, 0);
  std::filesystem::remove(directory_.path("parts/step-000000006.ngck"));
  refuses(kTrained + "--checkpoint-dir parts --resume --moments fp32",
          "was trained with --optimizer adamw --moments 8bit --updates backward, now it is adamw --updates backward");
  refuses(kTrained + "--checkpoint-dir parts --resume --updates end", "now it is adamw --moments 8bit: --resume continues");
  const ProgramResult resumed = run(kTrained + "--checkpoint-dir parts --resume --threads 1");
  ASSERT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_TRUE(read_file(directory_.path("whole/step-000000006.ngck")) == read_file(directory_.path("parts/step-000000006.ngck")));
  EXPECT_EQ(run("neurogen-engine generate --checkpoint parts --prompt line --seq 16 --max-tokens 5").status, 0);
  EXPECT_EQ(run("neurogen-engine export --checkpoint parts --safetensors lean.safetensors").status, 0);
  // Weights in fp32 go on in 16 bits if asked to.
  ASSERT_EQ(run(kTrained + "--checkpoint-dir wide --save-every 3").status, 0);
  std::filesystem::remove(directory_.path("wide/step-000000006.ngck"));
  refuses(kTrained + "--checkpoint-dir wide --resume --weights 16bit", "stores weights in fp32, this run in 16 bits");
  EXPECT_EQ(run(kTrained + "--checkpoint-dir wide --resume --weights 16bit --convert").status, 0);
  refuses(kTrained + "--updates backward --accumulate 2", "--updates backward leaves no gradients to accumulate");
  refuses("plan --arch tiny --moments 8bit", "--moments is for models that AdamW updates, tiny learns by muon: leave it out");
  const std::string page = run("plan --arch tied.json --seq 16").out;
  for (const char* line : {"--moments 8bit saves ", "--weights 16bit saves "})
    EXPECT_NE(page.find(line), std::string::npos) << page;
}

TEST_F(TransformerMistakes, GetOneSentence) {
  const string kTrained = "neurogen-engine train --data text.txt --tokenizer t.model --batch 2 --device cpu --progress none ";
  refuses(kTrained + "--arch tied.json --seq 64", "--seq is 64: tied knows 48 positions");
  refuses(kTrained + "--arch tied.json --seq 16 --optimizer muon", "--optimizer is muon: tied learns by adamw");
  refuses(kTrained + "--arch tied.json --seq 16 --optimizer sgd", "use auto, muon or adamw");
  ASSERT_EQ(run(kTrained + "--arch tied.json --seq 16 --steps 2 --export w.safetensors").status, 0);
  const ProgramResult longer = run("neurogen-engine generate --init w.safetensors --seq 16 --prompt line --max-tokens 100");
  EXPECT_EQ(longer.status, 2);
  EXPECT_NE(longer.err.find("longer than the 48 positions that tied knows"), string::npos) << longer.err;
  // Another optimizer is another run.
  ASSERT_EQ(run(kTrained + "--arch untied.json --seq 16 --steps 2 --checkpoint-dir saved").status, 0);
  refuses(kTrained + "--arch untied.json --seq 16 --checkpoint-dir saved --resume --optimizer adamw --steps 2",
          "was trained with --optimizer muon, now it is adamw");
}

}  // namespace
}  // namespace neurogen
