#include "engine/data/chat_template.h"

#include <nlohmann/json.hpp>

#include "engine/data/tokenizer.h"
#include "tests/expect_error.h"
#include "tests/folders.h"
#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

using nlohmann::json;
using std::string;

json golden(const string& name) { return json::parse(read_file(source_folder() + "/tests/golden/" + name)); }

std::vector<Message> messages_of(const json& conversation) {
  std::vector<Message> messages;
  for (const json& message : conversation) messages.push_back({message["role"], message["content"]});
  return messages;
}

// The small tokenizer of tests/golden, with a chat template.
std::unique_ptr<Tokenizer> tokenizer_with(const string& jinja) {
  const TemporaryDirectory directory;
  directory.file("tokenizer.json", golden("byte-level.json")["tokenizer"].dump());
  directory.file("tokenizer_config.json",
                 json{{"bos_token", "<|endoftext|>"}, {"eos_token", "<|im_end|>"}, {"chat_template", jinja}}.dump());
  return read_tokenizer(directory.path("."));
}

TEST(ChatTemplate, WritesWhatTransformersWrites) {
  const json file = golden("chat-templates.json");
  for (const auto& [name, jinja] : file["templates"].items()) {
    const auto tokenizer = tokenizer_with(jinja);
    ASSERT_TRUE(tokenizer->chat_template()) << name;
    for (std::size_t c = 0; c < file["conversations"].size(); ++c) {
      for (const bool ask : {false, true}) {
        const auto parts = tokenizer->chat_template()->parts(messages_of(file["conversations"][c]), ask);
        string text;
        for (const auto& part : parts) text += part.text;
        const string expected = file["texts"][name][c][ask ? 1 : 0];
        EXPECT_EQ(text, expected) << name;
        EXPECT_EQ(encode_parts(*tokenizer, parts).ids, tokenizer->encode_marked(expected)) << name;
      }
    }
  }
}

TEST(ChatTemplate, OnlyTheAssistantsWordsAndTheirEndAreLearned) {
  const auto tokenizer = tokenizer_with(golden("chat-templates.json")["templates"]["chatml without system"]);
  const std::vector<Message> messages = {
      {"user", "the <|im_end|> question"}, {"assistant", "the <|im_start|> answer"}, {"user", "?"}};
  const ConversationIds all = encode_parts(*tokenizer, tokenizer->chat_template()->parts(messages, true));
  ASSERT_EQ(all.ids.size(), all.learned.size());
  string learned, read;
  int ends = 0, learned_ends = 0;
  for (std::size_t i = 0; i < all.ids.size(); ++i) {
    (all.learned[i] ? learned : read) += tokenizer->piece_bytes(all.ids[i]);
    ends += all.ids[i] == 2;
    learned_ends += all.ids[i] == 2 && all.learned[i];
  }
  EXPECT_EQ(learned, "the <|im_start|> answer");  // what is typed stays letters
  EXPECT_EQ(read, "user\nthe <|im_end|> question\nassistant\n\nuser\n?\nassistant\n");
  EXPECT_EQ(ends, 3);
  EXPECT_EQ(learned_ends, 1);
  EXPECT_EQ(tokenizer->ends(), std::vector<TokenId>{2});
}

TEST(ChatTemplate, RefusesRolesWithoutAPlaceAndUnknownTemplates) {
  const json templates = golden("chat-templates.json")["templates"];
  const auto chatml = tokenizer_with(templates["chatml"]), llama2 = tokenizer_with(templates["llama2"]);
  const std::vector<Message> tool = {{"user", "a"}, {"tool", "b"}}, twice = {{"user", "a"}, {"user", "b"}};
  EXPECT_ERROR(chatml->chat_template()->parts(tool, true), "the role \"tool\" is unknown: use system, user or assistant");
  EXPECT_ERROR(llama2->chat_template()->parts(twice, true), "the role user stands where this chat template has the assistant");
  for (const char* unknown : {"", "{{ messages }}", "[INST]", "<|start_header_id|><|eot_id|> trim Cutting Knowledge Date"})
    EXPECT_FALSE(tokenizer_with(unknown)->chat_template()) << unknown;
}

}  // namespace
}  // namespace neurogen
