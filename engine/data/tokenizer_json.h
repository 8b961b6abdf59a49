// Byte-level BPE tokenizers in the files of Hugging Face's `tokenizers` and `transformers`.
#pragma once
#include <string>
#include <string_view>

#include "engine/data/byte_pairs.h"

namespace neurogen {

// Texts of the files, empty where there is none.
struct TokenizerFiles {
  std::string tokenizer;      // tokenizer.json
  std::string config;         // tokenizer_config.json: begin, end, chat template
  std::string chat_template;  // chat_template.jinja, which takes precedence
};

// The files at a path: a folder, or tokenizer.json with its neighbours. Throws Error as MappedFile.
TokenizerFiles read_tokenizer_files(const std::string& path);

// Throws Error, beginning with `name`, for what is not JSON, not byte-level BPE, or has a part that would change ids in a way that
// is not known here, by its name.
BytePairs parse_tokenizer_files(const TokenizerFiles& files, const std::string& name);

// The same in one text, which weights and checkpoints carry: a JSON object of tokenizer.json and tokenizer_config.json. Equal
// tokenizers have equal texts, whatever files they come from.
std::string carried_text(const BytePairs& pairs);
bool is_carried_text(std::string_view text);
// Throws Error as parse_tokenizer_files.
BytePairs parse_carried_text(std::string_view text, const std::string& name);
// The files in such a text, to write them again.
TokenizerFiles carried_files(std::string_view text, const std::string& name);

}  // namespace neurogen
