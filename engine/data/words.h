// Cuts a text into the words within which byte pairs are merged, by the patterns that tokenizers are trained with.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "engine/data/byte_pairs.h"

// PCRE2's opaque types.
struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

namespace neurogen {

// The pattern of a Split in tokenizer.json that a rule has; none for rules without Split.
std::string_view split_pattern(WordRule rule);

// A rule's compiled pattern. Unchanging once made: threads may share it.
class WordPattern {
 public:
  explicit WordPattern(WordRule rule);
  ~WordPattern();
  WordPattern(const WordPattern&) = delete;
  WordPattern& operator=(const WordPattern&) = delete;

 private:
  friend class Words;
  pcre2_real_code_8* code_;
};

// One thread's memory for matching.
class Words {
 public:
  explicit Words(const WordPattern& pattern);
  ~Words();
  Words(const Words&) = delete;
  Words& operator=(const Words&) = delete;

  // Bytes of the first word of `text`, well-formed UTF-8 that is not empty, starting at byte `begin`. All of the text after it may
  // decide.
  std::size_t length(std::string_view text, std::size_t begin);

 private:
  const pcre2_real_code_8* code_;
  pcre2_real_match_data_8* match_;
};

// Unicode's normalisation form C of well-formed UTF-8; of 16 KiB of marks and the like, without a letter that begins anew, in
// parts.
std::string nfc(std::string_view text);

// Whether no rule's word, and no composed character, reaches across position `at` of `text`, 0 < at < text.size(), whatever the
// text before and after: before a space that follows something else, and after a line end between two characters that are not
// white. Words before such a position are the same without the text behind it.
bool words_end(std::string_view text, std::size_t at);

}  // namespace neurogen
