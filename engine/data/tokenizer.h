// Tokenizers. Encoding may allocate: use it at start-up. Decoding needs only a table, built when the model is loaded.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/data/chat_template.h"
#include "engine/data/token_id.h"

namespace neurogen {

class Gguf;

// The bytes of every id, concatenated: those of id are bytes[offsets[id] ... offsets[id + 1]).
struct PieceTable {
  std::vector<std::uint32_t> offsets;  // [vocabulary + 1]
  std::string bytes;
};

// Name of the tensor that holds the tokenizer model, [bytes] u8, in a safetensors file of weights trained with it.
inline constexpr char kTokenizerTensor[] = "tokenizer.model";

// Text to token ids and back.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  std::int64_t vocabulary() const { return static_cast<std::int64_t>(pieces_.offsets.size()) - 1; }
  TokenId line_end() const { return line_end_; }
  TokenId document_end() const { return document_end_; }  // kNoToken: none. It decodes to no text.
  const std::string& name() const { return name_; }       // for messages
  const std::string& model() const { return model_; }     // the model file's bytes
  std::uint64_t hash() const { return hash_; }            // XXH3 of them

  // Appends the ids of UTF-8 text that do not depend on what follows it and returns how many bytes they encode; prepend the
  // remaining bytes to the next piece of the text. `last`: nothing follows, so all bytes are encoded.
  virtual std::size_t encode_some(std::string_view text, bool last, std::vector<TokenId>& ids) const = 0;
  std::vector<TokenId> encode(std::string_view text) const;
  // As encode, but special pieces such as <|im_end|> in the text are themselves, not letters. For texts of our own making: typed
  // text must not become one.
  virtual std::vector<TokenId> encode_marked(std::string_view text) const { return encode(text); }
  std::string decode(std::span<const TokenId> ids) const;

  // What a model reads before it continues `text`, which may be empty: at least one id.
  std::vector<TokenId> prompt(std::string_view text) const;

  TokenId text_begin() const { return text_begin_; }  // what prompt begins with; kNoToken: nothing of its own

  // How its model writes conversations; none: not known.
  const std::optional<ChatTemplate>& chat_template() const { return chat_template_; }
  // The ids with which its model ends what it says, beside document_end(); they decode to no text.
  const std::vector<TokenId>& ends() const { return ends_; }

  // The text of an id: its piece or its byte, empty for control pieces (<s>, </s>), U+FFFD for <unk>. Empty for an id outside the
  // vocabulary.
  std::string_view piece_bytes(TokenId id) const;
  const PieceTable& pieces() const { return pieces_; }

 protected:
  Tokenizer(std::string model, std::string name);

  PieceTable pieces_;  // the derived class fills these
  TokenId line_end_ = kNoToken, document_end_ = kNoToken;
  TokenId text_begin_ = kNoToken;  // read before a prompt; kNoToken: none
  std::optional<ChatTemplate> chat_template_;
  std::vector<TokenId> ends_;

 private:
  std::string name_, model_;
  std::uint64_t hash_ = 0;
};

// The files that read_tokenizer reads, for help texts.
inline constexpr char kTokenizerFiles[] =
    "a SentencePiece model, or byte-level BPE: tokenizer.json, the folder that has it, or a GGUF file";
// The tokenizer in a file, or in a model's bytes that were found in the file `name`. Throws Error that names the file: as
// MappedFile, as SentencePieceTokenizer, as parse_tokenizer_files or as read_gguf_tokenizer.
std::unique_ptr<Tokenizer> read_tokenizer(const std::string& path);
std::unique_ptr<Tokenizer> tokenizer_of(std::string model, const std::string& name);
std::unique_ptr<Tokenizer> tokenizer_of(const Gguf& file);

// Returns the next piece of a text, empty at its end; may throw.
using NextText = std::function<std::string_view()>;
// Training data of a tokenizer: the maximal number of lines, and of bytes per line (longer lines are split into segments). Lines of
// a longer text are sampled evenly, so that memory does not grow with it.
inline constexpr std::int64_t kTokenizerLines = 1'000'000, kTokenizerLine = 1024;
inline constexpr std::int64_t kMostTrained = 65536;  // pieces

// Trains byte-pair encoding (Sennrich, Haddow & Birch 2016) with byte fallback, a piece for a line end and one for a space, and no
// normalisation, so that any text round-trips unchanged. Deterministic; the model depends only on the text's lines and the
// vocabulary. Returns the model file's bytes. Throws Error if the text (`name` in the message) is too small for so many pieces, and
// whatever `next_text` throws.
std::string train_tokenizer(const NextText& next_text, std::int64_t vocabulary, const std::string& name);

}  // namespace neurogen
