#include "engine/data/tokenizer.h"

#include <xxhash.h>

#include <filesystem>

#include "engine/data/byte_level.h"
#include "engine/data/sentencepiece.h"
#include "engine/data/tokenizer_json.h"
#include "engine/files/file_io.h"

namespace neurogen {
namespace {

bool is_json(std::string_view model) { return model.starts_with('{'); }  // a SentencePiece model begins with a line end

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
  const bool folder = std::filesystem::is_directory(path);
  if (folder || is_json(MappedFile(path).text())) {
    TokenizerFiles files = read_tokenizer_files(path);
    if (is_carried_text(files.tokenizer)) return tokenizer_of(std::move(files.tokenizer), path);
    const BytePairs pairs = parse_tokenizer_files(files, path);
    return std::make_unique<ByteLevelTokenizer>(pairs, carried_text(pairs), path);
  }
  return tokenizer_of(std::string(MappedFile(path).text()), path);
}

std::unique_ptr<Tokenizer> tokenizer_of(std::string model, const std::string& name) {
  if (!is_json(model)) return std::make_unique<SentencePieceTokenizer>(std::move(model), name);
  const BytePairs pairs = parse_carried_text(model, name);
  return std::make_unique<ByteLevelTokenizer>(pairs, std::move(model), name);
}

}  // namespace neurogen
