// Text to token ids and back with a SentencePiece model, such as `corpus train-tokenizer` makes, or with the byte-level BPE of a
// tokenizer.json as GPT-2, SmolLM, Qwen2 and Llama 3 have. The ids are those that `corpus` writes. Special pieces in a text, such
// as
// <|im_end|>, are letters.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "neurogen/export.h"
#include "neurogen/result.h"

namespace neurogen {

class Tokenizer;

class NEUROGEN_API TextTokenizer {
 public:
  // The model, tokenizer.json or a folder that has it. Refuses a file that is neither, or has no piece for a line end.
  static Result<TextTokenizer> create(const std::string& path);

  TextTokenizer(TextTokenizer&&) noexcept;
  TextTokenizer& operator=(TextTokenizer&&) noexcept;
  ~TextTokenizer();

  std::int64_t vocabulary() const;
  std::int64_t line_end() const;      // the id of "\n" alone
  std::int64_t document_end() const;  // such as </s>, which decodes to no text; -1: none. See EngineOptions::document_end

  // Refuses text that is not UTF-8. `special`: special pieces in the text are themselves, not letters; not for text of strangers.
  Result<std::vector<std::int32_t>> encode(std::string_view text, bool special = false) const;
  // Returns bytes: if ids begin or end inside a character, so does the text. Refuses ids outside the vocabulary.
  Result<std::string> decode(std::span<const std::int32_t> ids) const;

 private:
  explicit TextTokenizer(std::unique_ptr<Tokenizer> tokenizer);
  std::unique_ptr<Tokenizer> tokenizer_;
};

}  // namespace neurogen
