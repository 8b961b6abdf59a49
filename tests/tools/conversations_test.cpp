// Conversations under a chat template: corpus make --chat, training on the assistant's words alone, chat and generate.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/data/tokenizer.h"
#include "engine/data/tokens.h"
#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using nlohmann::json;
using std::string;

class Conversations : public testing::Test {
 protected:
  Conversations() {
    const auto golden = [](const string& name) { return json::parse(read_file(source_folder() + "/tests/golden/" + name)); };
    directory_.file("tokenizer.json", golden("byte-level.json")["tokenizer"].dump());
    directory_.file(
        "tokenizer_config.json",
        json{{"eos_token", "<|im_end|>"}, {"chat_template", golden("chat-templates.json")["templates"]["chatml"]}}.dump());
    json brain = json::parse(kTestBrain);
    brain["vocabulary"] = read_tokenizer(directory_.path("."))->vocabulary();
    directory_.file("brain.json", brain.dump());
    string lines;
    for (int i = 0; i < 300; ++i)
      lines += conversation("say " + std::to_string(i % 10), "so: " + std::to_string(i % 10) + "!") + "\n";
    directory_.file("chat.jsonl", lines);
  }
  static string conversation(const string& user, const string& assistant) {
    return json{{"messages", {{{"role", "user"}, {"content", user}}, {{"role", "assistant"}, {"content", assistant}}}}}.dump();
  }
  ProgramResult run(const string& command, const string& before = "") const { return run_program_in(directory_, command, before); }
  ProgramResult make(const string& file, const string& more = "") const {
    return run("corpus make --chat " + file + " --tokenizer tokenizer.json --out c --held-out 0.5 " + more);
  }
  void refuses(const string& line, const string& sentence) const {
    directory_.file("bad.jsonl", conversation("a", "b") + "\n" + line + "\n");
    const std::size_t files = directory_.files();
    const ProgramResult result = make("bad.jsonl");
    EXPECT_EQ(result.status, 2) << line;
    EXPECT_NE(result.err.find("bad.jsonl line 2"), string::npos) << result.err;
    EXPECT_NE(result.err.find(sentence), string::npos) << result.err << "lacks: " << sentence;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_EQ(directory_.files(), files);
  }

  TemporaryDirectory directory_;
};

TEST_F(Conversations, BecomeTokensOfWhichTheAssistantsAreLearned) {
  const ProgramResult made = make("chat.jsonl");
  ASSERT_EQ(made.status, 0) << made.err;
  const auto tokenizer = read_tokenizer(directory_.path("."));
  for (const string part : {"c-train.bin", "c-valid.bin"}) {
    const Tokens tokens({directory_.path(part)}, nullptr);
    std::vector<TokenId> targets(static_cast<std::size_t>(tokens.size()));
    tokens.read_targets(0, targets);
    string learned;
    for (const TokenId id : targets) learned += id == 2 ? "\n" : string(tokenizer->piece_bytes(id));
    const auto ends = std::count(targets.begin(), targets.end(), 2);
    EXPECT_GT(ends, 10);
    EXPECT_EQ(learned.substr(0, 4), "so: ");
    EXPECT_EQ(std::count(learned.begin(), learned.end(), '!'), ends);
    EXPECT_EQ(learned.size(), static_cast<std::size_t>(ends) * string("so: 1!\n").size());  // nothing else
    const std::vector<TokenId> ids = tokens.all();
    const string all = tokenizer->decode(ids);
    EXPECT_EQ(all.find("system\nBe brief and kind.\nuser\nsay "), 0u) << all.substr(0, 100);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), 0), ends);  // each conversation is a document
  }
  // Without --chat the same names have no mask any more.
  ASSERT_EQ(run("corpus make chat.jsonl --tokenizer tokenizer.json --out c").status, 0);
  EXPECT_FALSE(Tokens({directory_.path("c-train.bin")}, nullptr).masked());
}

TEST_F(Conversations, AreLearnedAndSpoken) {
  ASSERT_EQ(make("chat.jsonl").status, 0);
  const ProgramResult trained =
      run("neurogen-engine --arch brain.json --batch 8 --seq 48 --data c-train.bin --valid c-valid.bin --tokenizer tokenizer.json "
          "--steps 150 --seed 1 --progress none --export w.safetensors");
  ASSERT_EQ(trained.status, 0) << trained.err;
  // The weights carry the tokenizer with its template.
  directory_.file("said", "say 3\nsay 7\n/save talk\n");
  const ProgramResult talked = run("neurogen-engine chat --init w.safetensors --temperature 0 < said");
  EXPECT_EQ(talked.status, 0) << talked.err;
  EXPECT_EQ(talked.err, "");
  EXPECT_EQ(talked.out.find("so: "), 0u) << talked.out;
  EXPECT_EQ(std::count(talked.out.begin(), talked.out.end(), '\n'), 3) << talked.out;  // two answers, each ended by the model
  const string saved = read_file(directory_.path("talk"));
  EXPECT_EQ(saved.find("> say 3\n< so: "), 0u) << saved;
  directory_.file("said", "/load talk\n");
  EXPECT_EQ(run("neurogen-engine chat --init w.safetensors < said").out, saved);

  const ProgramResult continued = run("neurogen-engine generate --init w.safetensors --temperature 0 --max-tokens 60 --prompt so:");
  EXPECT_EQ(continued.status, 0);
  EXPECT_NE(continued.out.find("!\n"), string::npos) << continued.out;  // ends with the turn
  EXPECT_EQ(continued.err.find("made 60 "), string::npos) << continued.err;

  const ProgramResult evaluated = run("neurogen-engine eval --init w.safetensors --data c-valid.bin --seq 48");
  EXPECT_EQ(evaluated.status, 0) << evaluated.err;
  EXPECT_EQ(run("neurogen-engine eval --init w.safetensors --data c-valid.bin --ngrams c-train.bin").status, 2);
}

TEST_F(Conversations, ThatAreNoneAreRefusedByTheirLine) {
  refuses("hello", "is no conversation");
  refuses("[]", "is no conversation");
  refuses(R"({"messages": 1})", "is no conversation");
  refuses(R"({"messages": []})", "has no messages");
  refuses(R"({"messages": [{"role": "user"}]})", "message 1 has no text as its content");
  refuses(R"({"messages": [{"role": "user", "content": "a"}, {"role": 1, "content": "b"}]})", "message 2 has no text as its role");
  refuses(R"({"messages": [{"role": "tool", "content": "a"}]})", "the role \"tool\" is unknown");
  refuses("{\"messages\": " + string(100, '['), "nested too deeply");
  directory_.file("plain.json", read_file(directory_.path("tokenizer.json")));
  std::filesystem::remove(directory_.path("tokenizer_config.json"));
  const ProgramResult result = make("chat.jsonl");
  EXPECT_EQ(result.status, 2);
  EXPECT_NE(result.err.find("has no chat template that is known"), string::npos) << result.err;
}

}  // namespace
}  // namespace neurogen
