// What is trained here goes to other programs with its tokenizer, and with where its texts begin and end.
#include "engine/files/gguf.h"
#include "tests/tools/command_line.h"

namespace neurogen {
namespace {

class Export : public CommandLine {
 protected:
  Export() { make_numbered_text(directory_, " has the number ", "\n"); }
  void succeeds(const string& command) const {
    const ProgramResult result = run(command);
    EXPECT_EQ(result.status, 0) << command << "\n" << result.err << result.out;
  }
  void make_llama(const string& tokenizer, int vocabulary) const {
    json llama = json::parse(R"({"family": "transformer", "name": "llama", "width": 32, "layers": 1, "heads": 2, "hidden": 48,
      "context": 64, "norm": "rms", "positions": "rotary", "activation": "silu_gated", "qk_norm": false, "qkv_bias": false,
      "bias": false, "tied": false, "embedding_norm": false})");
    llama["vocabulary"] = vocabulary;
    directory_.file("llama.json", llama.dump());
    succeeds(train_ + "--arch llama.json --export w.safetensors --tokenizer " + tokenizer);
  }
  json read(const string& file) const { return json::parse(read_file(directory_.path(file))); }

  const string train_ = "neurogen-engine train --data text.txt --batch 2 --seq 16 --steps 1 --device cpu --progress none ";
};

TEST_F(Export, GivesLlamaCppTheSentencePieces) {
  make_llama("t.model", 310);
  succeeds("neurogen-engine export --init w.safetensors --gguf w.gguf");
  const Gguf file(directory_.path("w.gguf"));
  EXPECT_EQ(file.text("tokenizer.ggml.model"), "llama");
  const auto pieces = file.texts("tokenizer.ggml.tokens");
  const auto kinds = file.wholes("tokenizer.ggml.token_type");
  const auto scores = file.reals("tokenizer.ggml.scores");
  ASSERT_EQ(pieces.size(), 310u);  // the model's vocabulary: ten pieces are made up
  ASSERT_EQ(kinds.size(), 310u);
  ASSERT_EQ(scores.size(), 310u);
  EXPECT_EQ(std::vector(pieces.begin(), pieces.begin() + 5),
            (std::vector<std::string_view>{"<unk>", "<s>", "</s>", "\n", "<0x00>"}));
  EXPECT_EQ(std::vector(kinds.begin(), kinds.begin() + 5), (std::vector<std::int64_t>{2, 3, 3, 4, 6}));
  EXPECT_EQ(kinds[299], 1);
  EXPECT_EQ(kinds[300], 5);
  EXPECT_LT(scores[299], 0);
  EXPECT_EQ(file.whole("tokenizer.ggml.bos_token_id"), 3);  // a prompt begins a line
  EXPECT_EQ(file.whole("tokenizer.ggml.eos_token_id"), 2);
  EXPECT_TRUE(file.flag("tokenizer.ggml.add_bos_token"));
  EXPECT_FALSE(file.flag("tokenizer.ggml.add_space_prefix"));

  // Our programs read it again: the same pieces, and from them the same file.
  succeeds("neurogen-engine export --init w.gguf --gguf again.gguf");
  EXPECT_TRUE(read_file(directory_.path("again.gguf")) == read_file(directory_.path("w.gguf")));
  const string line = "generate --prompt 'line 7' --temperature 0 --max-tokens 20 --init ";
  EXPECT_EQ(run("neurogen-engine " + line + "w.gguf").out, run("neurogen-engine " + line + "w.safetensors").out);
  succeeds("corpus tokenize text.txt --tokenizer w.gguf --out theirs.bin");
  succeeds("corpus tokenize text.txt --tokenizer t.model --out ours.bin");
  EXPECT_TRUE(read_file(directory_.path("theirs.bin")) == read_file(directory_.path("ours.bin")));

  succeeds("neurogen-engine export --init w.safetensors --huggingface theirs");
  EXPECT_EQ(read("theirs/generation_config.json"), (json{{"bos_token_id", 3}, {"eos_token_id", {2}}}));
  EXPECT_EQ(read("theirs/config.json")["bos_token_id"], 3);
}

TEST_F(Export, SaysWhereAChatsAnswersEnd) {
  const auto golden = [](const string& name) { return json::parse(read_file(source_folder() + "/tests/golden/" + name)); };
  directory_.file("tokenizer.json", golden("byte-level.json")["tokenizer"].dump());
  const json chatml = golden("chat-templates.json")["templates"]["chatml"];
  directory_.file("tokenizer_config.json", json{{"eos_token", "<|endoftext|>"}, {"chat_template", chatml}}.dump());
  make_llama("tokenizer.json", 600);
  succeeds("neurogen-engine export --init w.safetensors --huggingface theirs");
  EXPECT_EQ(read("theirs/generation_config.json"), (json{{"bos_token_id", nullptr}, {"eos_token_id", {0, 2}}}));
}

TEST_F(Export, SaysWhatOtherProgramsLack) {
  succeeds(train_ + "--arch transformer-tiny --export tiny.safetensors --tokenizer t.model");
  for (const string to : {"--gguf tiny.gguf", "--huggingface tiny"}) {
    refuses(
        "neurogen-engine export --init tiny.safetensors " + to,
        "transformer-tiny has the activation relu2, which Hugging Face's and llama.cpp's models have not: write it as safetensors");
    EXPECT_FALSE(std::filesystem::exists(directory_.path(to.substr(to.find(' ') + 1))));
  }
}

}  // namespace
}  // namespace neurogen
