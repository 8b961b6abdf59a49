#include "engine/data/byte_level.h"

#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/data/tokenizer_json.h"
#include "engine/files/gguf.h"
#include "tests/expect_error.h"
#include "tests/folders.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

using nlohmann::json;
using std::string;
using Ids = std::vector<TokenId>;

// What tests/golden/byte_level.py wrote.
const json& golden() {
  static const json file = json::parse(read_file(source_folder() + "/tests/golden/byte-level.json"));
  return file;
}

json tokenizer_json(const string& kind) {
  json file = golden()["tokenizer"];
  const json& parts = golden()["kinds"][kind];
  file["pre_tokenizer"] = parts["pre_tokenizer"];
  file["normalizer"] = parts["normalizer"];
  file["model"]["ignore_merges"] = parts["ignore_merges"];
  return file;
}

class ByteLevel : public testing::Test {
 protected:
  const Tokenizer& open(const json& file, const string& name = "tokenizer.json") {
    return *opened_.emplace_back(read_tokenizer(directory_.file(name, file.dump())));
  }
  template <typename Change>
  string refusal(Change&& change) {
    json file = tokenizer_json("gpt2");
    change(file);
    try {
      open(file);
      return "";
    } catch (const Error& error) {
      return error.what();
    }
  }

  TemporaryDirectory directory_;
  std::vector<std::unique_ptr<Tokenizer>> opened_;
};

const char* const kKinds[] = {"gpt2", "smollm", "qwen2", "llama3"};

TEST_F(ByteLevel, GivesTheIdsOfPyPisTokenizers) {
  for (const string kind : kKinds) {
    const Tokenizer& tokenizer = open(tokenizer_json(kind));
    const json& expected = golden()["kinds"][kind];
    for (std::size_t i = 0; i < golden()["texts"].size(); ++i) {
      const string text = golden()["texts"][i];
      EXPECT_EQ(tokenizer.encode(text), expected["plain"][i].get<Ids>()) << kind << ": " << text;
      EXPECT_EQ(tokenizer.encode_marked(text), expected["special"][i].get<Ids>()) << kind << ": " << text;
    }
  }
}

TEST_F(ByteLevel, SpecialPiecesAreNeverTyped) {
  const Tokenizer& tokenizer = open(tokenizer_json("gpt2"));
  for (const TokenId id : tokenizer.encode("<|endoftext|><|im_start|>a<|im_end|>")) EXPECT_GT(id, 2);
  EXPECT_EQ(tokenizer.encode_marked("<|endoftext|><|im_start|><|im_end|>"), (Ids{0, 1, 2}));
  EXPECT_EQ(tokenizer.piece_bytes(0), "");
  EXPECT_EQ(tokenizer.encode("<tool>"), tokenizer.encode_marked("<tool>"));
  EXPECT_EQ(tokenizer.encode("<tool>").size(), 1u);
  EXPECT_EQ(tokenizer.piece_bytes(tokenizer.encode("<tool>").front()), "<tool>");
  EXPECT_EQ(tokenizer.document_end(), 0);
  EXPECT_EQ(tokenizer.piece_bytes(tokenizer.line_end()), "\n");
  EXPECT_EQ(tokenizer.prompt("a"), tokenizer.encode("a"));
  EXPECT_EQ(tokenizer.prompt(""), Ids{0});
}

TEST_F(ByteLevel, TextComesBackByteForByte) {
  string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  for (const string kind : {"gpt2", "smollm", "llama3"}) {
    const Tokenizer& tokenizer = open(tokenizer_json(kind));
    for (const string& text : golden()["texts"].get<std::vector<string>>())
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
    for (const string& text :
         {bytes, string("a\xFF"), string("\xC3"), string("caf\xC3 caf\xC3\xA9\xE2\x82 \xF0\x9F\x98"), string(100, '\0')})
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  }
}

// However a text is cut, the ids are those of the whole.
TEST_F(ByteLevel, PiecesOfATextGiveTheIdsOfTheWhole) {
  std::mt19937 random(3);
  const char* parts[] = {"the", " text", "  ",     "\n",     "\r\n",    "\n\n",   " \t", "'ll",
                         "'",   "7",     "\u4E2D", "\u3000", "e\u0301", "<tool>", "    "};
  string text;
  for (int i = 0; i < 3000; ++i) text += parts[random() % std::size(parts)];
  text += string((1 << 20) - 3, 'y') + "\u4E2D\u4E2D" + string(700'000, '\n') + string(600'000, ' ') + "end";
  for (const string kind : kKinds) {
    const Tokenizer& tokenizer = open(tokenizer_json(kind));
    const Ids whole = tokenizer.encode(text);
    for (const std::size_t longest : {5, 300'000}) {
      Ids ids;
      string waiting;
      for (std::size_t at = 0; at < text.size();) {
        std::size_t size = longest == 5 && at > 10'000 ? text.size() : 1 + random() % longest;
        while (at + size < text.size() && (static_cast<unsigned char>(text[at + size]) & 0xC0) == 0x80) ++size;
        waiting += text.substr(at, size);
        at += size;
        waiting.erase(0, tokenizer.encode_some(waiting, false, ids));
        EXPECT_LE(waiting.size(), (1u << 20) + longest + 4);
      }
      EXPECT_EQ(tokenizer.encode_some(waiting, true, ids), waiting.size());
      EXPECT_TRUE(ids == whole) << kind << " " << longest;
    }
  }
}

// Millions of letters without an end take no longer than words.
TEST_F(ByteLevel, EndlessWordsComeBack) {
  const Tokenizer& tokenizer = open(tokenizer_json("qwen2"));
  for (const string& text : {string(5'000'000, 'a'), string(2'000'000, ' '), string(2'000'000, '.'), string(2'000'000, '\n') + "x"})
    EXPECT_TRUE(tokenizer.decode(tokenizer.encode(text)) == text);
  // Marks that normalisation puts into another order.
  string marks;
  for (int i = 0; i < 300'000; ++i) marks += "\u0301\u0327";
  EXPECT_NEAR(static_cast<double>(tokenizer.decode(tokenizer.encode("a" + marks)).size()), static_cast<double>(marks.size()), 10);
}

TEST_F(ByteLevel, ReadsBothSpellingsOfMergesAndWhatItCarries) {
  for (const string kind : kKinds) {
    json file = tokenizer_json(kind);
    const Tokenizer& tokenizer = open(file);
    for (json& merge : file["model"]["merges"]) merge = merge[0].get<string>() + " " + merge[1].get<string>();
    EXPECT_EQ(open(file).hash(), tokenizer.hash());
    const auto carried = tokenizer_of(tokenizer.model(), "weights");
    EXPECT_EQ(carried->model(), tokenizer.model());
    EXPECT_EQ(carried->hash(), tokenizer.hash());
    EXPECT_EQ(carried->encode_marked(kind + " it's<tool>\n"), tokenizer.encode_marked(kind + " it's<tool>\n"));
    EXPECT_EQ(carried_text(parse_carried_text(tokenizer.model(), "weights")), tokenizer.model());
    EXPECT_EQ(open(json::parse(tokenizer.model()), "carried.json").hash(), tokenizer.hash());
  }
}

TEST_F(ByteLevel, TakesBeginAndEndFromTheFilesBesideIt) {
  json file = tokenizer_json("gpt2");
  const string folder = directory_.path(".");
  directory_.file("tokenizer.json", file.dump());
  directory_.file("tokenizer_config.json", R"({"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>",
    "add_bos_token": true, "chat_template": [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]})");
  const BytePairs pairs = parse_tokenizer_files(read_tokenizer_files(folder), folder);
  EXPECT_EQ(pairs.bos, 1);
  EXPECT_EQ(pairs.eos, 2);
  EXPECT_EQ(pairs.chat_template, "yes");
  const auto tokenizer = read_tokenizer(folder);
  EXPECT_EQ(tokenizer->document_end(), 0);  // <|endoftext|>
  EXPECT_EQ(tokenizer->prompt("").front(), 1);
  EXPECT_EQ(tokenizer_of(tokenizer->model(), "weights")->prompt(""), Ids{1});
  directory_.file("chat_template.jinja", "better");
  EXPECT_EQ(parse_tokenizer_files(read_tokenizer_files(folder), folder).chat_template, "better");

  file["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single", {{{"SpecialToken", {{"id", "<|im_end|>"}}}}, {{"Sequence", {}}}}}};
  EXPECT_EQ(open(file, "begins.json").prompt("").front(), 1);  // the configuration says another
  std::filesystem::remove(directory_.path("tokenizer_config.json"));
  EXPECT_EQ(open(file, "begins.json").prompt("").front(), 2);
}

TEST_F(ByteLevel, RefusesByNameWhatWouldChangeIds) {
  const std::pair<std::function<void(json&)>, string> refused[] = {
      {[](json& f) { f["model"]["type"] = "Unigram"; }, "has a model of type \"Unigram\""},
      {[](json& f) { f["model"]["dropout"] = 0.1; }, "has the model's dropout 0.1"},
      {[](json& f) { f["model"]["unk_token"] = "<unk>"; }, "has the model's unk_token \"<unk>\""},
      {[](json& f) { f["model"]["end_of_word_suffix"] = "</w>"; }, "end_of_word_suffix"},
      {[](json& f) {
         f["normalizer"] = {{"type", "Lowercase"}};
       },
       "has the normalizer {\"type\":\"Lowercase\"}"},
      {[](json& f) { f["pre_tokenizer"] = nullptr; }, "has the pre_tokenizer null"},
      {[](json& f) { f["pre_tokenizer"]["add_prefix_space"] = true; }, "add_prefix_space"},
      {[](json& f) { f["pre_tokenizer"]["type"] = "Whitespace"; }, "Whitespace"},
      {[](json& f) { f["added_tokens"][0]["lstrip"] = true; }, "has the added piece \"<|endoftext|>\" with lstrip"},
      {[](json& f) { f["added_tokens"][3]["content"] = "a b"; }, "the added piece \"a b\""},
      {[](json& f) { f["added_tokens"][3]["id"] = 5; }, "have the id 5"},
      {[](json& f) { f["added_tokens"][3]["id"] = -1; }, "has the id -1"},
      {[](json& f) { f["added_tokens"][3]["id"] = 100'000'000; }, "has the id 100000000"},
      {[](json& f) { f["added_tokens"][3]["id"] = 1000; }, "no piece has the id"},
      {[](json& f) { f["model"]["vocab"]["a b"] = f["model"]["vocab"].size(); }, "have the id"},
      {[](json& f) { f["model"]["merges"][0] = "zz"; }, "the merge \"zz\" has the piece \"zz\""},
      {[](json& f) { f["model"].erase("vocab"); }, "it has no vocab"},
      {[](json& f) { f["model"].erase("merges"); }, "it has no merges"},
      {[](json& f) { f = json::array(); }, "not"},
  };
  for (const auto& [change, part] : refused) {
    const string sentence = refusal(change);
    EXPECT_NE(sentence.find("tokenizer.json"), string::npos) << part;
    EXPECT_NE(sentence.find(part), string::npos) << sentence << "\nlacks: " << part;
  }
  EXPECT_ERROR(read_tokenizer(directory_.file("x.json", "{")), "x.json", "not a JSON object");
}

// A GGUF file's metadata gives the same tokenizer, byte for byte of what is carried.
TEST_F(ByteLevel, ReadsGgufFiles) {
  json file = tokenizer_json("smollm");
  std::vector<string> tokens(file["model"]["vocab"].size() + 3), merges;
  std::vector<std::int32_t> kinds(tokens.size(), 1);
  for (const auto& [piece, id] : file["model"]["vocab"].items()) tokens[id] = piece;
  for (json& added : file["added_tokens"]) {
    added["normalized"] = false;
    tokens[added["id"]] = added["content"];
    kinds[added["id"]] = added["special"] ? 3 : 4;
  }
  for (const json& merge : file["model"]["merges"]) merges.push_back(merge[0].get<string>() + " " + merge[1].get<string>());
  directory_.file("tokenizer_config.json", R"({"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "chat_template": "x"})");
  const auto with = [&](const GgufMetadata& more, const string& pre = "smollm") {
    GgufMetadata all = {{"general.architecture", string("llama")}, {"tokenizer.ggml.pre", pre},
                        {"tokenizer.ggml.tokens", tokens},         {"tokenizer.ggml.token_type", kinds},
                        {"tokenizer.ggml.bos_token_id", 1u},       {"tokenizer.ggml.eos_token_id", 2u},
                        {"tokenizer.chat_template", string("x")}};
    all.insert(all.end(), more.begin(), more.end());
    write_gguf(directory_.path("t.gguf"), all, {});
    return directory_.path("t.gguf");
  };
  const GgufMetadata bpe = {{"tokenizer.ggml.model", string("gpt2")}, {"tokenizer.ggml.merges", merges}};
  const auto tokenizer = read_tokenizer(with(bpe));
  EXPECT_EQ(tokenizer->model(), open(file).model());
  kinds.resize(kinds.size() + 100, 5);  // unused pieces at the end only fill the model's table
  for (int i = 0; i < 100; ++i) tokens.push_back("[PAD" + std::to_string(i) + "]");
  EXPECT_EQ(read_tokenizer(with(bpe))->hash(), tokenizer->hash());
  EXPECT_ERROR(read_tokenizer(with(bpe, "viking")), "t.gguf: its tokenizer cuts words by the rule \"viking\"");
  EXPECT_ERROR(read_tokenizer(with({})), "t.gguf: it has no tokenizer");
  EXPECT_ERROR(read_tokenizer(with({{"tokenizer.ggml.model", string("llama")}})), "its tokenizer is of the kind \"llama\"");
  EXPECT_ERROR(read_tokenizer(with({{"tokenizer.ggml.model", string("gpt2")}})), "t.gguf", "merges");
  EXPECT_ERROR(
      read_tokenizer(with({{"tokenizer.ggml.model", string("gpt2")}, {"tokenizer.ggml.merges", std::vector<string>{"zz y"}}})),
      "t.gguf: the merge \"zz y\" has the piece \"zz\"");
  kinds.pop_back();
  EXPECT_ERROR(read_tokenizer(with(bpe)), "kinds of them");
}

// Bytes changed, left out and cut anywhere: refused in one sentence, or a tokenizer that works.
TEST_F(ByteLevel, SurvivesHostileFiles) {
  const string good = tokenizer_json("qwen2").dump();
  std::mt19937 random(5);
  for (int trial = 0; trial < 400; ++trial) {
    string bad = good;
    const std::size_t at = random() % bad.size();
    if (trial % 4 == 0) bad.resize(at);
    else if (trial % 4 == 1) bad[at] = static_cast<char>(random());
    else if (trial % 4 == 2) bad.erase(at, random() % 100);
    else
      std::swap_ranges(bad.begin() + static_cast<std::ptrdiff_t>(at * 9 / 10),
                       bad.begin() + static_cast<std::ptrdiff_t>(at * 9 / 10 + random() % 9), bad.begin());
    try {
      const auto tokenizer = read_tokenizer(directory_.file("hostile.json", bad));
      tokenizer->decode(tokenizer->encode("it's  7 \u00E9\n"));
    } catch (const Error& error) {
      const string sentence = error.what();
      EXPECT_TRUE(sentence.find("hostile.json") != string::npos && sentence.find('\n') == string::npos && sentence.size() < 1000)
          << sentence;
    }
  }
}

}  // namespace
}  // namespace neurogen
