// Conversations under a chat template: corpus make --chat, training on the assistant's words alone, chat and generate.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "arena/bytes.h"
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

  // Weights of a brain that has hardly learned: what it says depends on all that it has read.
  void make_weights(const string& name) const {
    const ProgramResult trained =
        run("neurogen-engine --arch brain.json --batch 8 --seq 48 --data c-train.bin --tokenizer tokenizer.json --steps 1 --seed 1 "
            "--progress none --export " +
            name);
    ASSERT_EQ(trained.status, 0) << trained.err;
  }
  // The size of what the model reads before it answers.
  std::size_t ids_of(const std::vector<Message>& messages) const {
    const auto tokenizer = read_tokenizer(directory_.path("."));
    return encode_parts(*tokenizer, tokenizer->chat_template()->parts(messages, true)).ids.size();
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

TEST_F(Conversations, BeginWithWhatTheSystemSays) {
  ASSERT_EQ(make("chat.jsonl").status, 0);
  make_weights("w.safetensors");
  const string voice = " --init w.safetensors --temperature 0 --max-tokens 20 ";
  const auto generated = [&](const string& more) {
    const ProgramResult result = run("neurogen-engine generate" + voice + "--prompt 'say 3' " + more);
    EXPECT_EQ(result.status, 0) << result.err;
    return result;
  };
  const auto read = [](const ProgramResult& result) { return std::stoul(result.err.substr(string("read ").size())); };
  const ProgramResult usual = generated("--chat"), told = generated("--system 'Say so.'");
  EXPECT_EQ(read(usual), ids_of({{"user", "say 3"}}));
  EXPECT_EQ(read(told), ids_of({{"system", "Say so."}, {"user", "say 3"}}));
  EXPECT_NE(read(usual), read(told));
  EXPECT_NE(usual.out, told.out);
  EXPECT_EQ(usual.out.find("say 3"), string::npos) << "the answer alone";
  EXPECT_EQ(generated("").out.find("say 3"), 0u);

  const auto talked = [&](const string& lines, const string& more) {
    directory_.file("said", lines);
    return run("neurogen-engine chat" + voice + more + " < said").out;
  };
  EXPECT_EQ(talked("say 3\n", ""), usual.out);
  EXPECT_EQ(talked("say 3\n", "--system 'Say so.'"), told.out);
  EXPECT_EQ(talked("say 8\n/reset\nsay 3\n", "--system 'Say so.'"), talked("say 8\n", "--system 'Say so.'") + told.out);
}

TEST_F(Conversations, HaveDefaultsOfTheirOwn) {
  ASSERT_EQ(make("chat.jsonl").status, 0);
  make_weights("w.safetensors");
  const auto values = [&](const string& options) {
    directory_.file("said", "/params\n");
    std::istringstream lines(run("neurogen-engine chat --init " + options + " < said").out);
    std::map<string, string> values;
    for (string line, name, value; std::getline(lines, line);)
      if (std::istringstream(line) >> name >> value) values[name] = value;
    return values;
  };
  const auto is = [&](const string& options, const std::map<string, string>& expected) {
    const auto found = values(options);
    for (const auto& [name, value] : expected)
      EXPECT_EQ(found.contains(name) ? found.at(name) : "missing", value) << name << " with " << options;
  };
  is("w.safetensors", {{"max-tokens", "512"}, {"temperature", "0.2"}, {"min-p", "0.05"}, {"repetition-penalty", "1.1"}});
  is("w.safetensors --max-tokens 7 --temperature 1 --min-p 0 --repetition-penalty 1",
     {{"max-tokens", "7"}, {"temperature", "1"}, {"min-p", "0"}, {"repetition-penalty", "1"}});
  // A model without a chat template continues lines, by the defaults of generate.
  std::filesystem::remove(directory_.path("tokenizer_config.json"));
  make_weights("plain.safetensors");
  is("plain.safetensors", {{"max-tokens", "100"}, {"min-p", "0"}, {"repetition-penalty", "1"}});
  for (const string words : {"chat --system x < said", "generate --system x --prompt y", "generate --chat --prompt y"}) {
    const ProgramResult result = run("neurogen-engine " + words + " --init plain.safetensors");
    EXPECT_EQ(result.status, 2) << words;
    EXPECT_NE(result.err.find("is for models with a chat template, and none is known of this one"), string::npos) << result.err;
  }
}

TEST_F(Conversations, AreLearnedByTheirMaskUnlessItIsGone) {
  ASSERT_EQ(make("chat.jsonl").status, 0);
  make_weights("w.safetensors");
  const auto evaluated = [&] {
    const ProgramResult result =
        run("neurogen-engine eval --init w.safetensors --tokenizer tokenizer.json --data c-valid.bin --seq 48");
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  };
  const Tokens tokens({directory_.path("c-valid.bin")}, nullptr);
  std::vector<TokenId> targets(static_cast<std::size_t>(tokens.size()));
  tokens.read_targets(0, targets);
  const auto learned = std::count_if(targets.begin(), targets.end(), [](TokenId id) { return id >= 0; });
  EXPECT_LT(learned, tokens.size() / 2);
  const string masked = evaluated();
  EXPECT_EQ(masked.find(fmt::format("{} tokens predicted", with_commas(static_cast<Bytes>(learned)))), 0u) << masked;
  std::filesystem::remove(directory_.path("c-valid.mask"));
  EXPECT_EQ(evaluated().find(fmt::format("{} tokens predicted", with_commas(static_cast<Bytes>(tokens.size() - 1)))), 0u);
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
