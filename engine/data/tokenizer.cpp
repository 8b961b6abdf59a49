#include "engine/data/tokenizer.h"

#include <xxhash.h>

#include <filesystem>

#include "engine/data/byte_level.h"
#include "engine/data/sentencepiece.h"
#include "engine/data/tokenizer_gguf.h"
#include "engine/data/tokenizer_json.h"
#include "engine/files/file_io.h"

namespace neurogen {
namespace {

bool is_json(std::string_view model) { return model.starts_with('{'); }  // a SentencePiece model begins with a line end

std::unique_ptr<Tokenizer> byte_level(const BytePairs& pairs, const std::string& name) {
  return std::make_unique<ByteLevelTokenizer>(pairs, carried_text(pairs), name);
}

}  // namespace

Tokenizer::Tokenizer(std::string model, std::string name)
    : name_(std::move(name)), model_(std::move(model)), hash_(XXH3_64bits(model_.data(), model_.size())) {}

std::vector<TokenId> Tokenizer::encode(std::string_view text) const {
  std::vector<TokenId> ids;
  encode_some(text, true, ids);
  return ids;
}

std::vector<TokenId> Tokenizer::prompt(std::string_view text) const {
  std::vector<TokenId> ids;
  if (text_begin_ != kNoToken) ids.push_back(text_begin_);
  encode_some(text, true, ids);
  if (ids.empty()) ids.push_back(document_end_ != kNoToken ? document_end_ : line_end_);
  return ids;
}

std::string Tokenizer::decode(std::span<const TokenId> ids) const {
  std::string text;
  for (const TokenId id : ids) text += piece_bytes(id);
  return text;
}

std::string_view Tokenizer::piece_bytes(TokenId id) const {
  if (id < 0 || id >= vocabulary()) return {};
  const auto i = static_cast<std::size_t>(id);
  return std::string_view(pieces_.bytes).substr(pieces_.offsets[i], pieces_.offsets[i + 1] - pieces_.offsets[i]);
}

std::unique_ptr<Tokenizer> read_tokenizer(const std::string& path) {
  if (std::filesystem::is_directory(path)) return byte_level(parse_tokenizer_files(read_tokenizer_files(path), path), path);
  const MappedFile file(path);
  const std::string_view model = file.text();
  if (model.starts_with("GGUF")) return tokenizer_of(Gguf(path));
  if (is_json(model) && !is_carried_text(model)) return byte_level(parse_tokenizer_files(read_tokenizer_files(path), path), path);
  return tokenizer_of(std::string(model), path);
}

std::unique_ptr<Tokenizer> tokenizer_of(std::string model, const std::string& name) {
  if (!is_json(model)) return std::make_unique<SentencePieceTokenizer>(std::move(model), name);
  const BytePairs pairs = parse_carried_text(model, name);
  return std::make_unique<ByteLevelTokenizer>(pairs, std::move(model), name);
}

std::unique_ptr<Tokenizer> tokenizer_of(const Gguf& file) {
  if (!has_gguf_sentence_pieces(file)) return byte_level(read_gguf_tokenizer(file), file.path());
  return std::make_unique<SentencePieceTokenizer>(sentencepiece_model(read_gguf_sentence_pieces(file)), file.path());
}

}  // namespace neurogen
