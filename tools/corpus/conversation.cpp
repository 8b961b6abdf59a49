#include "tools/corpus/conversation.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "arena/error.h"
#include "engine/files/json.h"

namespace neurogen {
namespace {

constexpr int kLevels = 32;  // maximal nesting; what stands beside the messages may be anything

std::vector<Message> messages_of(std::string_view line, const std::string& where) {
  const nlohmann::json conversation = parse_json(line, kLevels, where);
  const bool has_list = conversation.is_object() && conversation.contains("messages") && conversation["messages"].is_array();
  if (!has_list) throw Error(where + R"( is no conversation: write {"messages": [{"role": "user", "content": "..."}, ...]})");
  std::vector<Message> messages;
  for (const nlohmann::json& message : conversation["messages"]) {
    const auto text = [&](const char* key) -> std::string {
      if (message.is_object() && message.contains(key) && message[key].is_string()) return message[key];
      throw Error(fmt::format("{}: message {} has no text as its {}: give it one", where, messages.size() + 1, key));
    };
    messages.push_back({text("role"), text("content")});
  }
  if (messages.empty()) throw Error(where + " has no messages: leave the line out");
  return messages;
}

}  // namespace

ConversationIds read_conversation(std::string_view line, const Tokenizer& tokenizer, const std::string& where) {
  const std::vector<Message> messages = messages_of(line, where);
  try {
    return encode_parts(tokenizer, tokenizer.chat_template().value().parts(messages, false));
  } catch (const Error& error) {
    throw Error(fmt::format("{}: {}", where, error.what()), error.status());
  }
}

}  // namespace neurogen
