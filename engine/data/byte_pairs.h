// Byte-level byte-pair encoding (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2) as a file
// describes it, in whatever format: tokenizer.json (tokenizer_json.h) or the metadata of a GGUF file.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/data/token_id.h"

namespace neurogen {

inline constexpr std::size_t kMostPieces = 1 << 20;  // of a tokenizer

// How a text is cut into words before pairs are merged within them (words.h).
enum class WordRule { gpt2, smollm, qwen2, llama3 };

// A piece that text does not spell by merging: it is found in the text as it is, before anything else.
struct AddedPiece {
  TokenId id;
  bool special;     // control: decodes to no text, and typed text is not searched for it
  bool normalized;  // found in the normalised text
};

struct BytePairs {
  struct Merge {
    TokenId left, right, whole;
  };
  std::vector<std::string> pieces;  // by id: bytes spelt in the alphabet below, added pieces as they are
  std::vector<Merge> merges;        // the first is applied first
  std::vector<AddedPiece> added;
  WordRule words = WordRule::gpt2;
  bool nfc = false;          // text is brought to Unicode's normalisation form C first
  bool whole_words = false;  // a word that is a piece is not merged ("ignore_merges")
  TokenId bos = kNoToken, eos = kNoToken;
  bool begins_with_bos = false;  // the model's texts do
  std::string chat_template;     // Jinja, empty: none
};

// GPT-2's alphabet: each byte is a printable character. Bytes 33-126, 161-172 and 174-255 are themselves as code points, the others
// U+0100 and following, in order.
const std::array<std::string, 256>& byte_alphabet();
// The bytes that a piece spells; none if a character is not of the alphabet.
std::optional<std::string> spelt_bytes(std::string_view piece);

// For messages: in quotes, on one short line.
std::string quoted_piece(std::string_view piece);

// Throws Error, beginning with `name`, unless pieces are different UTF-8 and all but the added ones spell bytes, all ids exist, and
// no merge makes a special piece.
void check_byte_pairs(const BytePairs& pairs, const std::string& name);

}  // namespace neurogen
