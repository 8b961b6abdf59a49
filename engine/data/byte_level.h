// A tokenizer of byte-level byte-pair encoding: GPT-2's, SmolLM's, Qwen2's, Llama 3's.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/data/added_pieces.h"
#include "engine/data/byte_pairs.h"
#include "engine/data/pair_merges.h"
#include "engine/data/tokenizer.h"
#include "engine/data/words.h"

namespace neurogen {

// Gives the ids that PyPI's tokenizers gives for the same file, except within 1 MiB of text without a place where words_end, which
// is cut. Text comes back byte for byte, unless it is normalised or has a byte for which there is no piece. Bytes that are not
// UTF-8 are each encoded as the byte that they are.
class ByteLevelTokenizer : public Tokenizer {
 public:
  // `model`: the text that describes the same (tokenizer_json.h). Throws Error as check_byte_pairs, and for an added piece that
  // contains a place where words_end.
  ByteLevelTokenizer(const BytePairs& pairs, std::string model, const std::string& name);
  ~ByteLevelTokenizer() override;

  // Leaves little more than 1 MiB at most, and as a rule less than a line.
  std::size_t encode_some(std::string_view text, bool last, std::vector<TokenId>& ids) const override;
  std::vector<TokenId> encode_marked(std::string_view text) const override;

 private:
  struct Work;  // one thread's memory

  void fill_added(const BytePairs& pairs);
  void fill_pieces(const BytePairs& pairs);
  std::size_t encode_all(std::string_view text, bool last, bool with_special, std::vector<TokenId>& ids) const;
  void append_chunk(std::string_view text, bool with_special, Work& work, std::vector<TokenId>& ids) const;
  void append_plain(std::string_view text, bool with_special, Work& work, std::vector<TokenId>& ids) const;
  void append_words(std::string_view text, Work& work, std::vector<TokenId>& ids) const;
  void append_word(std::string_view word, Work& work, std::vector<TokenId>& ids) const;

  WordPattern pattern_;
  PairMerges merges_;
  AddedPieces added_, added_normalized_;
  bool nfc_;
  std::unordered_map<std::string_view, TokenId> whole_words_;  // by their bytes, in pieces_; empty: all words are merged
  mutable std::mutex mutex_;
  mutable std::unique_ptr<Work> work_;
};

}  // namespace neurogen
