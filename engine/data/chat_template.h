// How a model writes conversations. Its tokenizer's files say so in Jinja, a language of programs; of these, the usual ones are
// recognised by their text, as in llama.cpp, and written here.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/data/token_id.h"

namespace neurogen {

class Tokenizer;

struct Message {
  std::string role, content;  // system, user or assistant
};

class ChatTemplate {
 public:
  // `begin`, `end`: the texts of the tokenizer's special pieces, may be empty. None if the template is of no kind known here.
  static std::optional<ChatTemplate> recognise(std::string_view jinja, const std::string& begin, const std::string& end);

  const char* name() const;
  const std::string& turn_end() const { return turn_end_; }  // the piece that ends the assistant's words

  // A conversation, piece by piece. `learned`: what an assistant says, with the end of its turn.
  struct Part {
    std::string text;
    bool special, learned;
  };
  // `ask`: up to the place where the assistant speaks next. Throws Error for a role, or an order of roles, that has no place.
  std::vector<Part> parts(std::span<const Message> messages, bool ask) const;

 private:
  enum class Style { chatml, llama2, llama3 };
  class Writer;

  Style style_ = Style::chatml;
  std::string begin_, turn_end_;
  std::string system_;  // said by the template where no message does; empty: nothing
};

struct ConversationIds {
  std::vector<TokenId> ids;
  std::vector<bool> learned;  // by id
};
// Gives the ids that PyPI's transformers gives for the conversation as one text, whatever its messages contain: special pieces in
// them are letters. An id is learned if the text that it begins with is.
ConversationIds encode_parts(const Tokenizer& tokenizer, std::span<const ChatTemplate::Part> parts);

}  // namespace neurogen
