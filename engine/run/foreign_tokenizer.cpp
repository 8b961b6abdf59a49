#include "engine/run/foreign_tokenizer.h"

#include <algorithm>
#include <array>

#include "engine/data/sentencepiece_model.h"
#include "engine/data/tokenizer_json.h"

namespace neurogen {
namespace {

// llama.cpp's numbers of kinds of pieces (llama.h, llama_token_type).
constexpr std::int32_t kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4;

const char* pre_tokenizer(WordRule rule) {
  constexpr std::array<const char*, 4> kNames = {"gpt-2", "smollm", "qwen2", "llama-bpe"};  // by WordRule
  return kNames[static_cast<std::size_t>(rule)];
}

GgufMetadata metadata_of(const BytePairs& pairs) {
  std::vector<std::string> merges;
  for (const BytePairs::Merge& merge : pairs.merges)
    merges.push_back(pairs.pieces[static_cast<std::size_t>(merge.left)] + " " +
                     pairs.pieces[static_cast<std::size_t>(merge.right)]);
  std::vector<std::int32_t> kinds(pairs.pieces.size(), kNormal);
  for (const AddedPiece& piece : pairs.added) kinds[static_cast<std::size_t>(piece.id)] = piece.special ? kControl : kUserDefined;
  GgufMetadata list = {
      {"tokenizer.ggml.model", std::string("gpt2")}, {"tokenizer.ggml.pre", std::string(pre_tokenizer(pairs.words))},
      {"tokenizer.ggml.tokens", pairs.pieces},       {"tokenizer.ggml.token_type", std::move(kinds)},
      {"tokenizer.ggml.merges", std::move(merges)},  {"tokenizer.ggml.add_bos_token", pairs.begins_with_bos},
      {"tokenizer.ggml.add_space_prefix", false}};
  if (!pairs.chat_template.empty()) list.emplace_back("tokenizer.chat_template", pairs.chat_template);
  return list;
}

// llama.cpp merges as SentencePiece does, finds the user-defined pieces first, and spells the rest by bytes.
GgufMetadata metadata_of(SentencePieces pieces, bool begins) {
  const auto unknown = std::find(pieces.kinds.begin(), pieces.kinds.end(), kUnknown) - pieces.kinds.begin();
  return {{"tokenizer.ggml.model", std::string("llama")},
          {"tokenizer.ggml.pre", std::string("default")},
          {"tokenizer.ggml.tokens", std::move(pieces.pieces)},
          {"tokenizer.ggml.scores", std::move(pieces.scores)},
          {"tokenizer.ggml.token_type", std::move(pieces.kinds)},
          {"tokenizer.ggml.unknown_token_id", static_cast<std::uint32_t>(unknown)},
          {"tokenizer.ggml.add_bos_token", begins},
          {"tokenizer.ggml.add_eos_token", false},
          {"tokenizer.ggml.add_space_prefix", false}};
}

void put_ends(ForeignTokenizer& to) {
  if (to.begin >= 0) to.metadata.emplace_back("tokenizer.ggml.bos_token_id", static_cast<std::uint32_t>(to.begin));
  if (to.end >= 0) to.metadata.emplace_back("tokenizer.ggml.eos_token_id", static_cast<std::uint32_t>(to.end));
}

ForeignTokenizer byte_level(const Tokenizer& tokenizer) {
  const BytePairs pairs = parse_carried_text(tokenizer.model(), tokenizer.name());
  const TokenizerFiles files = carried_files(tokenizer.model(), tokenizer.name());
  ForeignTokenizer foreign{{{"tokenizer.json", files.tokenizer}}, metadata_of(pairs), pairs.bos, pairs.eos, {}};
  if (!files.config.empty()) foreign.files.emplace_back("tokenizer_config.json", files.config);
  if (!files.chat_template.empty()) foreign.files.emplace_back("chat_template.jinja", files.chat_template);
  return foreign;
}

}  // namespace

ForeignTokenizer foreign_tokenizer(const Tokenizer* tokenizer) {
  ForeignTokenizer foreign;
  if (!tokenizer) return foreign;
  if (is_carried_text(tokenizer->model())) {
    foreign = byte_level(*tokenizer);
  } else if (auto pieces = plain_sentence_pieces(tokenizer->model())) {
    foreign.begin = tokenizer->text_begin(), foreign.end = tokenizer->document_end();
    foreign.metadata = metadata_of(std::move(*pieces), foreign.begin != kNoToken);
  } else {
    return foreign;
  }
  put_ends(foreign);
  foreign.ends.assign(tokenizer->ends().begin(), tokenizer->ends().end());
  if (foreign.ends.empty() && foreign.end >= 0) foreign.ends = {foreign.end};
  return foreign;
}

}  // namespace neurogen
