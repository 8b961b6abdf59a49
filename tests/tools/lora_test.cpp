// Adapters through the ordinary programs: trained beside a base, resumed bit for bit, spoken with, merged, written for PEFT.
#include <fmt/format.h>

#include <cstring>

#include "engine/files/safetensors.h"
#include "tests/tools/command_line.h"

namespace neurogen {
namespace {

constexpr char kLlama[] = R"({"family": "transformer", "name": "llama", "vocabulary": 300, "width": 64, "layers": 2, "heads": 4,
  "key_value_heads": 2, "hidden": 96, "context": 64, "norm": "rms", "positions": "rotary", "activation": "silu_gated",
  "qk_norm": false, "qkv_bias": false, "bias": false, "tied": true, "embedding_norm": false})";

class LoraRuns : public CommandLine {
 protected:
  LoraRuns() {
    make_numbered_text(directory_, " has the number ", "\n");
    directory_.file("llama.json", kLlama);
    succeeds(kBase + "--seed 1 --steps 60 --export base.safetensors");
    succeeds(kBase + "--seed 2 --steps 2 --export other.safetensors");
  }
  string succeeds(const string& command) const {
    const ProgramResult result = run(command);
    EXPECT_EQ(result.status, 0) << command << "\n" << result.err << result.out;
    return result.out;
  }
  double loss_of(const string& weights) const {
    const string table = succeeds("neurogen-engine eval " + weights + " --device cpu --data text.txt --batch 4 --seq 16");
    const auto at = table.find(" top 5\n");  // ends the heads of the columns
    EXPECT_NE(at, string::npos) << table;
    return at == string::npos ? 0 : std::stod(table.substr(at + 7 + 24));
  }
  string file(const string& name) const { return read_file(directory_.path(name)); }

  const string kBase =
      "neurogen-engine train --arch llama.json --data text.txt --tokenizer t.model --batch 4 --seq 16 --device cpu --progress "
      "none ";
  const string kLora = kBase + "--init base.safetensors --lora 4 --lr 0.01 --steps 60 ";
};

TEST_F(LoraRuns, GoOnBitForBitAndAreBoundToTheirBase) {
  const string printed = succeeds(kLora + "--save-every 30 --checkpoint-dir whole");
  EXPECT_NE(printed.find("loaded: frozen weights"), string::npos) << printed;
  EXPECT_NE(printed.find("allocations since the seal: 0\n"), string::npos) << printed;
  succeeds(kLora + "--save-every 30 --checkpoint-dir parts");
  std::filesystem::remove(directory_.path("parts/step-000000060.ngck"));
  const string resume = kBase + "--lr 0.01 --steps 60 --save-every 30 --checkpoint-dir parts --resume ";
  refuses(resume + "--init other.safetensors", "beside a base of XXH3");
  refuses(resume + "--lora 8", "was trained with --optimizer adamw --lora 4");
  succeeds(resume);  // names neither base nor rank
  EXPECT_TRUE(file("whole/step-000000060.ngck") == file("parts/step-000000060.ngck"));
  EXPECT_LT(std::filesystem::file_size(directory_.path("whole/step-000000060.ngck")),
            std::filesystem::file_size(directory_.path("base.safetensors")));

  const double before = loss_of("--init base.safetensors"), after = loss_of("--checkpoint whole");
  EXPECT_LT(after, before);
  EXPECT_EQ(loss_of("--init whole/step-000000060.ngck"), after);
  succeeds("neurogen-engine generate --checkpoint whole --prompt line --seq 16 --max-tokens 5");
  std::filesystem::rename(directory_.path("base.safetensors"), directory_.path("moved.safetensors"));
  refuses("neurogen-engine eval --checkpoint whole --device cpu --data text.txt", "base.safetensors");
  EXPECT_EQ(loss_of("--checkpoint whole --init moved.safetensors"), after);
  refuses("neurogen-engine eval --checkpoint whole --init other.safetensors --device cpu --data text.txt",
          "other.safetensors is not the base of these adapters");

  refuses("neurogen-engine export --checkpoint whole --safetensors merged.safetensors", "add --merge");
  succeeds("neurogen-engine export --checkpoint whole --merge --init moved.safetensors --safetensors merged.safetensors");
  EXPECT_NEAR(loss_of("--init merged.safetensors"), after, 1e-4);
  for (const char* format : {"--gguf merged.gguf", "--huggingface merged/"}) {
    succeeds(string("neurogen-engine export --checkpoint whole --merge --init moved.safetensors ") + format);
    EXPECT_NEAR(loss_of(string("--tokenizer t.model --init ") + std::strchr(format, 'm')), after, 1e-4);
  }
  for (const auto& entry : std::filesystem::directory_iterator(directory_.path("")))
    EXPECT_EQ(entry.path().string().find("merged.safetensors.merged"), string::npos) << entry;
}

TEST_F(LoraRuns, AreWrittenForPeft) {
  succeeds(kLora + "--lora-alpha 12 --lora-targets q,down --checkpoint-dir run");
  succeeds("neurogen-engine export --checkpoint run --adapter peft");
  const auto config = json::parse(file("peft/adapter_config.json"));
  EXPECT_EQ(config["r"], 4);
  EXPECT_EQ(config["lora_alpha"], 12);
  EXPECT_EQ(config["target_modules"], json({"down_proj", "q_proj"}));
  const Safetensors adapters(directory_.path("peft/adapter_model.safetensors"));
  EXPECT_EQ(adapters.tensors().size(), 8u);
  EXPECT_EQ(adapters.at("base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight").shape, Shape({4, 64}));
  EXPECT_EQ(adapters.at("base_model.model.model.layers.0.mlp.down_proj.lora_B.weight").shape, Shape({64, 4}));
}

TEST_F(LoraRuns, MistakesGetOneSentence) {
  refuses(kBase + "--lora 4", "--lora needs the weights that it adapts: name them with --init");
  refuses(kLora + "--lora-targets q,x", "--lora-targets has \"x\": use q, k, v, o, gate, up, down");
  refuses(kLora + "--moments 8bit", "--moments is for training all weights: leave it out with --lora");
  refuses(kLora + "--lora-alpha -1", "--lora-alpha is -1");
  refuses("plan --arch tiny --lora 4", "--lora adapts the matrices of transformers, tiny is none");
  refuses("plan --arch llama.json --lora 5000", "--lora is 5000: use 1 to 4096");
  succeeds(kBase + "--steps 2 --checkpoint-dir all");
  refuses("neurogen-engine export --checkpoint all --adapter peft", "holds no adapters");
  succeeds(kLora + "--export tuned.safetensors");
  EXPECT_LT(loss_of("--init tuned.safetensors"), loss_of("--init base.safetensors"));
}

TEST_F(LoraRuns, SayWhetherItHelpedAndWhatWasForgotten) {
  directory_.file("other.txt", "Something else altogether, which these weights have never read and will not learn here.");
  const string printed = succeeds(kLora + "--valid text.txt --valid other.txt --log run.jsonl --export tuned.safetensors");
  std::vector<double> losses, others;
  for (const json& event : log("run.jsonl")) {
    if (event["event"] == "eval") losses.push_back(event["valid_loss"]);
    if (event["event"] == "other_eval") others.push_back(event["valid_loss"]);
  }
  ASSERT_EQ(others.size(), 2u);
  EXPECT_NEAR(losses.front(), loss_of("--init base.safetensors"), 1e-3);
  EXPECT_NEAR(losses.back(), loss_of("--init tuned.safetensors"), 1e-3);
  EXPECT_NE(
      printed.find(fmt::format("before the first step {:.4f}, after the last {:.4f} on text.txt\nbefore the first step {:.4f}, "
                               "after the last {:.4f} on other.txt\n",
                               losses.front(), losses.back(), others[0], others[1])),
      string::npos)
      << printed;
}

}  // namespace
}  // namespace neurogen
