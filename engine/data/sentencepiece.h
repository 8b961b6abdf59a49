// A SentencePiece model (Kudo & Richardson 2018). Encoding calls the library, which allocates.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/data/tokenizer.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace neurogen {

// Encodes line by line: a line's pieces, then line_end() for its '\n': the piece "\n", id 3 in our own models, else the byte
// <0x0A>, as SentencePiece itself encodes it. With a model from train_tokenizer, decode(encode(text)) equals text byte for byte,
// and the ids are those of SentencePiece's own Encode(text), except for the character U+2581, which SentencePiece treats as a
// space, and for words of more than 64 KiB. Other models may normalise each line. document_end() is </s>, id 2 in our own models.
class SentencePieceTokenizer : public Tokenizer {
 public:
  // Throws Error that names the file: not a model, more pieces than kMostVocabulary, no piece for a line end.
  SentencePieceTokenizer(std::string model, const std::string& name);
  ~SentencePieceTokenizer() override;

  // Leaves little more than 64 KiB at most.
  std::size_t encode_some(std::string_view text, bool last, std::vector<TokenId>& ids) const override;

 private:
  using Ids = std::vector<TokenId>;
  // A text that is encoded without the library, and its ids.
  struct Spelt {
    std::string_view text;
    Ids ids;
  };
  TokenId piece_id(std::string_view piece) const;
  bool has_piece(std::string_view piece) const;
  Ids spell(std::string_view text) const;  // byte pieces of `text`; empty without byte fallback
  void append_segment(std::string_view text, Ids& ids) const;

  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  std::vector<Spelt> spelt_;  // the first is the line end
};

}  // namespace neurogen
