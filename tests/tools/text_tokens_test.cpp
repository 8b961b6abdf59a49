// Text and tokens on the command line: characters, documents' ends and tokenizers that must belong together.
#include <fmt/format.h>

#include "tests/tools/command_line.h"

namespace neurogen {
namespace {

TEST_F(CommandLine, LogProbabilitiesShowAnyCharacter) {
  string text;
  for (int i = 0; i < 300; ++i) text += i % 2 ? "\u4E2D\u6587\u00E9" : "\u6587\U0001F600\u00E9";
  directory_.file("text.txt", text);
  ASSERT_EQ(run("corpus train-tokenizer text.txt --vocabulary 266 --out t.model").status, 0);
  const ProgramResult trained = run(
      "neurogen-engine train --arch brain.json --batch 4 --seq 32 --data text.txt --tokenizer t.model --steps 60 --progress none "
      "--export w.safetensors");
  ASSERT_EQ(trained.status, 0) << trained.err;
  const string said =
      run("neurogen-engine generate --init w.safetensors --tokenizer t.model --prompt '\u4E2D' --temperature 0 --logprobs").out;
  for (const char* piece : {"\"\u6587\"\n", "\"\U0001F600\"\n", "\"\u00E9\"\n"}) EXPECT_NE(said.find(piece), string::npos) << said;
}

// A brain trained with documents is used with them, through a checkpoint, its weights, or weights exported from it.
TEST_F(CommandLine, WhereDocumentsEndTravelsWithTheWeights) {
  directory_.file("whole.bin", read_file(directory_.path("valid.bin")).substr(0, 97 * 2));  // three batches, all evaluated
  const ProgramResult trained =
      train("--steps 30 --document-end 7 --valid whole.bin --log a.jsonl --checkpoint-dir saved --export w");
  ASSERT_EQ(trained.status, 0) << trained.err;
  const auto lines = log("a.jsonl");
  const auto eval = std::find_if(lines.rbegin(), lines.rend(), [](const json& line) { return line["event"] == "eval"; });
  ASSERT_NE(eval, lines.rend());
  const string loss = fmt::format("{:.4f}", (*eval)["valid_loss"].get<double>());
  ASSERT_EQ(run("neurogen-engine export --checkpoint saved --safetensors e").status, 0);
  EXPECT_TRUE(read_file(directory_.path("e")) == read_file(directory_.path("w")));
  EXPECT_EQ(json::parse(run("neurogen-engine inspect saved --json").out)["document_end"], 7);
  const auto evaluated = [&](const string& weights) {
    const ProgramResult result = run("neurogen-engine eval --data whole.bin --seq 16 --batch 2 " + weights);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  for (const char* weights : {"--checkpoint saved", "--init saved/step-000000030.ngck", "--init w", "--init w --document-end 7"}) {
    EXPECT_NE(evaluated(weights).find(loss), string::npos) << weights << "\n" << loss << "\n" << evaluated(weights);
  }
  EXPECT_EQ(evaluated("--checkpoint saved --document-end -1").find(loss), string::npos);
  // Training continues with it too.
  for (const char* init : {"w", "saved/step-000000030.ngck"}) {
    ASSERT_EQ(train("--steps 1 --checkpoint-dir next --init " + string(init)).status, 0);
    EXPECT_EQ(json::parse(run("neurogen-engine inspect next --json").out)["document_end"], 7);
    std::filesystem::remove_all(directory_.path("next"));
    ASSERT_EQ(train("--steps 1 --checkpoint-dir next --document-end 8 --init " + string(init)).status, 0);
    EXPECT_EQ(json::parse(run("neurogen-engine inspect next --json").out)["document_end"], 8);
    std::filesystem::remove_all(directory_.path("next"));
  }
  EXPECT_EQ(train("--steps 30 --valid whole.bin --checkpoint-dir saved --resume").status, 0);
}

TEST_F(CommandLine, SaysThatTokensAreOfAnotherTokenizer) {
  make_numbered_text(directory_, " has the number ", "\n");
  ASSERT_EQ(run("corpus make text.txt --tokenizer t.model --out c").status, 0);
  ASSERT_EQ(run("corpus train-tokenizer text.txt --vocabulary 290 --out u.model").status, 0);
  const string data = "--arch brain.json --seq 16 --data c-train.bin --valid c-valid.bin --steps 1 --progress none --export w";
  const ProgramResult same = run("neurogen-engine train --tokenizer t.model " + data);
  EXPECT_EQ(same.status, 0);
  EXPECT_EQ(same.err, "");
  EXPECT_EQ(run("neurogen-engine train " + data).err, "");
  const ProgramResult other = run("neurogen-engine train --tokenizer u.model " + data);
  EXPECT_EQ(other.status, 0);
  for (const char* part : {"c-train.bin was made with another tokenizer", "c-valid.bin was made with another tokenizer", "u.model"})
    EXPECT_NE(other.err.find(part), string::npos) << other.err;
  const ProgramResult evaluated =
      run("neurogen-engine eval --tokenizer u.model --data c-valid.bin --ngrams c-train.bin --seq 16 --init w");
  EXPECT_EQ(evaluated.status, 0) << evaluated.err;
  for (const char* part : {"c-train.bin was made", "c-valid.bin was made"})
    EXPECT_NE(evaluated.err.find(part), string::npos) << evaluated.err;
}

}  // namespace
}  // namespace neurogen
