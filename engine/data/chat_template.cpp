#include "engine/data/chat_template.h"

#include <fmt/format.h>

#include "arena/error.h"
#include "engine/data/byte_pairs.h"
#include "engine/data/tokenizer.h"

namespace neurogen {
namespace {

constexpr std::string_view kWhite = " \t\n\v\f\r";

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = std::min(text.find_first_not_of(kWhite), text.size());
  return text.substr(begin, text.find_last_not_of(kWhite) + 1 - begin);
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

// The words that the template itself gives to the system: behind <|im_start|>system and a line end, which may be spelt \n.
std::string default_system(std::string_view jinja) {
  static constexpr std::string_view kBegin = "<|im_start|>system", kEnd = "<|im_end|>";
  for (std::size_t at = 0; (at = jinja.find(kBegin, at)) != jinja.npos;) {
    at += kBegin.size();
    std::string_view rest = jinja.substr(at);
    if (rest.starts_with("\\n")) rest.remove_prefix(2);
    else if (rest.starts_with('\n')) rest.remove_prefix(1);
    else continue;
    const std::string_view words = rest.substr(0, std::min(rest.find(kEnd), rest.size()));
    if (!words.empty() && words.size() < rest.size() && words.find_first_of("'\"{}\\") == words.npos) return std::string(words);
  }
  return "";
}

}  // namespace

std::optional<ChatTemplate> ChatTemplate::recognise(std::string_view jinja, const std::string& begin, const std::string& end) {
  ChatTemplate it;
  it.begin_ = begin;
  if (contains(jinja, "<|im_start|>") && contains(jinja, "<|im_end|>")) {
    it.turn_end_ = "<|im_end|>";
    it.system_ = default_system(jinja);
  } else if (contains(jinja, "<|start_header_id|>") && contains(jinja, "<|eot_id|>") && contains(jinja, "trim") &&
             !contains(jinja, "Cutting Knowledge Date")) {  // later templates tell the date
    it.style_ = Style::llama3;
    it.turn_end_ = "<|eot_id|>";
  } else if (contains(jinja, "[INST]") && contains(jinja, "<<SYS>>") && contains(jinja, "strip") && !end.empty()) {
    it.style_ = Style::llama2;
    it.turn_end_ = end;
  } else {
    return std::nullopt;
  }
  return it;
}

const char* ChatTemplate::name() const {
  return style_ == Style::chatml ? "ChatML" : style_ == Style::llama2 ? "Llama 2's" : "Llama 3's";
}

class ChatTemplate::Writer {
 public:
  explicit Writer(const ChatTemplate& style) : style_(style) {}

  std::vector<Part> write(std::span<const Message> messages, bool ask) {
    const bool has_system = !messages.empty() && messages.front().role == "system";
    if (!has_system && !style_.system_.empty()) chatml({"system", style_.system_});
    if (style_.style_ == Style::llama2) {
      llama2(messages, has_system);
    } else {
      if (style_.style_ == Style::llama3) special(style_.begin_);
      for (const Message& message : messages) style_.style_ == Style::chatml ? chatml(message) : llama3(message);
      if (ask) style_.style_ == Style::chatml ? begin_chatml("assistant") : begin_llama3("assistant");
    }
    return std::move(parts_);
  }

 private:
  void special(const std::string& text, bool learned = false) {
    if (!text.empty()) parts_.push_back({text, true, learned});
  }
  void plain(std::string_view text, bool learned = false) {
    if (!text.empty()) parts_.push_back({std::string(text), false, learned});
  }

  void begin_chatml(const std::string& role) {
    special("<|im_start|>");
    plain(role + "\n");
  }
  void chatml(const Message& message) {
    const bool learned = message.role == "assistant";
    begin_chatml(message.role);
    plain(message.content, learned);
    special(style_.turn_end_, learned);
    plain("\n");
  }

  void begin_llama3(const std::string& role) {
    special("<|start_header_id|>");
    plain(role);
    special("<|end_header_id|>");
    plain("\n\n");
  }
  void llama3(const Message& message) {
    const bool learned = message.role == "assistant";
    begin_llama3(message.role);
    plain(trimmed(message.content), learned);
    special(style_.turn_end_, learned);
  }

  // The user and the assistant speak in turn; what the system says stands in the user's first words.
  void llama2(std::span<const Message> messages, bool has_system) {
    std::string before = has_system ? fmt::format("<<SYS>>\n{}\n<</SYS>>\n\n", messages.front().content) : "";
    if (has_system) messages = messages.subspan(1);
    bool user = true;
    for (const Message& message : messages) {
      if (message.role != (user ? "user" : "assistant"))
        throw Error(fmt::format("the role {} stands where this chat template has the {}: let user and assistant speak in turn",
                                message.role, user ? "user" : "assistant"));
      if (user) {
        special(style_.begin_);
        special("[INST]");
        plain(fmt::format(" {} ", trimmed(before + message.content)));
        special("[/INST]");
        before.clear();
      } else {
        plain(fmt::format(" {} ", trimmed(message.content)), true);
        special(style_.turn_end_, true);
      }
      user = !user;
    }
  }

  const ChatTemplate& style_;
  std::vector<Part> parts_;
};

std::vector<ChatTemplate::Part> ChatTemplate::parts(std::span<const Message> messages, bool ask) const {
  for (const Message& message : messages) {
    if (message.role == "system" || message.role == "user" || message.role == "assistant") continue;
    throw Error(fmt::format("the role {} is unknown: use system, user or assistant", quoted_piece(message.role)));
  }
  return Writer(*this).write(messages, ask);
}

ConversationIds encode_parts(const Tokenizer& tokenizer, std::span<const ChatTemplate::Part> parts) {
  ConversationIds all;
  std::string text;                                     // since the last special piece
  std::vector<std::pair<std::size_t, bool>> stretches;  // of it: bytes as they come back, whether they are learned
  const auto end_text = [&] {
    std::size_t at = 0, stretch = 0, end = stretches.empty() ? 0 : stretches[0].first;
    for (const TokenId id : tokenizer.encode(text)) {
      while (at >= end && stretch + 1 < stretches.size()) end += stretches[++stretch].first;
      all.ids.push_back(id);
      all.learned.push_back(stretches[stretch].second);
      at += tokenizer.piece_bytes(id).size();
    }
    text.clear();
    stretches.clear();
  };
  for (const ChatTemplate::Part& part : parts) {
    if (part.special) {
      // A tokenizer may spell a mark such as [INST] with letters.
      const std::vector<TokenId> ids = tokenizer.encode_marked(part.text);
      if (ids.size() == 1 && tokenizer.piece_bytes(ids[0]).empty()) {
        end_text();
        all.ids.push_back(ids[0]);
        all.learned.push_back(part.learned);
        continue;
      }
    }
    text += part.text;
    // A tokenizer may normalise its text.
    stretches.push_back({tokenizer.decode(tokenizer.encode(part.text)).size(), part.learned});
  }
  end_text();
  return all;
}

}  // namespace neurogen
