// Text to token ids and back with a SentencePiece model (Kudo & Richardson 2018). Encoding calls the library, which allocates: use
// it at start-up. Decoding needs only a table, built when the model is loaded.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace neurogen {

// The bytes of every id, concatenated: those of id are bytes[offsets[id] ... offsets[id + 1]).
struct PieceTable {
  std::vector<std::uint32_t> offsets;  // [vocabulary + 1]
  std::string bytes;
};

// Name of the tensor that holds the tokenizer model, [bytes] u8, in a safetensors file of weights trained with it.
inline constexpr char kTokenizerTensor[] = "tokenizer.model";

class Tokenizer {
 public:
  // Throws Error that names the file: as MappedFile, not a model, more than 65,536 pieces, no piece for a line end.
  explicit Tokenizer(const std::string& path);
  // The same from a model's bytes, found in the file of weights `name`.
  Tokenizer(std::string model, const std::string& name);
  ~Tokenizer();

  std::int64_t vocabulary() const { return static_cast<std::int64_t>(pieces_.offsets.size()) - 1; }
  // The piece "\n", id 3 in our own models, else the byte <0x0A>, as SentencePiece itself encodes it.
  std::uint16_t line_end() const { return spelt_.front().ids.front(); }
  // </s>, id 2 in our own models; -1: none. It decodes to no text.
  std::int32_t document_end() const { return document_end_; }
  const std::string& name() const { return name_; }    // for messages
  const std::string& model() const { return model_; }  // the model file's bytes
  std::uint64_t hash() const { return hash_; }         // XXH3 of them

  // Encodes UTF-8 text line by line: a line's pieces, then line_end() for its '\n'. With a model from train_tokenizer,
  // decode(encode(text)) equals text byte for byte, and the ids are those of SentencePiece's own Encode(text), except for the
  // character U+2581, which SentencePiece treats as a space, and for words of more than 64 KiB. Other models may normalise each
  // line.
  std::vector<std::uint16_t> encode(std::string_view text) const;
  // The same for a text in pieces: appends the ids that do not depend on what follows `text` and returns how many bytes they
  // encode; prepend the remaining bytes to the next piece. `last`: nothing follows, so all bytes are encoded. Leaves little more
  // than 64 KiB at most.
  std::size_t encode_some(std::string_view text, bool last, std::vector<std::uint16_t>& ids) const;
  std::string decode(std::span<const std::uint16_t> ids) const;

  // The text of an id: its piece or its byte, empty for control pieces (<s>, </s>), U+FFFD for <unk>. Empty for an id at or above
  // the vocabulary.
  std::string_view piece_bytes(std::uint16_t id) const;
  const PieceTable& pieces() const { return pieces_; }

 private:
  using Ids = std::vector<std::uint16_t>;
  // A text that is encoded without the library, and its ids.
  struct Spelt {
    std::string_view text;
    Ids ids;
  };
  std::uint16_t piece_id(std::string_view piece) const;
  bool has_piece(std::string_view piece) const;
  Ids spell(std::string_view text) const;  // byte pieces of `text`; empty without byte fallback
  void append_segment(std::string_view text, Ids& ids) const;

  std::string name_, model_;
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  PieceTable pieces_;
  std::vector<Spelt> spelt_;  // the first is the line end
  std::int32_t document_end_ = -1;
  std::uint64_t hash_ = 0;
};

// Returns the next piece of a text, empty at its end; may throw.
using NextText = std::function<std::string_view()>;
// Training data of a tokenizer: the maximal number of lines, and of bytes per line (longer lines are split into segments). Lines of
// a longer text are sampled evenly, so that memory does not grow with it.
inline constexpr std::int64_t kTokenizerLines = 1'000'000, kTokenizerLine = 1024;

// Trains byte-pair encoding (Sennrich, Haddow & Birch 2016) with byte fallback, a piece for a line end and one for a space, and no
// normalisation, so that any text round-trips unchanged. Deterministic; the model depends only on the text's lines and the
// vocabulary. Returns the model file's bytes. Throws Error if the text (`name` in the message) is too small for so many pieces, and
// whatever `next_text` throws.
std::string train_tokenizer(const NextText& next_text, std::int64_t vocabulary, const std::string& name);

}  // namespace neurogen
