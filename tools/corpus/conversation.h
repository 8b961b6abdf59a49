// Lines of conversations: {"messages": [{"role": "user", "content": "..."}, ...]}.
#pragma once
#include <string>
#include <string_view>

#include "engine/data/tokenizer.h"

namespace neurogen {

// The conversation of a line under the tokenizer's chat template, which it must have. Throws Error, beginning with `where`, for a
// line that is none.
ConversationIds read_conversation(std::string_view line, const Tokenizer& tokenizer, const std::string& where);

}  // namespace neurogen
