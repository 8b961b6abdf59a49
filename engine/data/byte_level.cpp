#include "engine/data/byte_level.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>

#include "arena/error.h"
#include "engine/data/segment.h"
#include "engine/files/utf8.h"

namespace neurogen {
namespace {

constexpr std::size_t kLongest = 1 << 20;    // bytes that are encoded at once
constexpr std::size_t kLongestAdded = 1024;  // bytes of an added piece, which is sought at every place

// In a model for chats the end that its files name ends a turn; what ended documents before has one of the usual names.
TokenId usual_document_end(const BytePairs& pairs) {
  for (const char* usual : {"<|endoftext|>", "<|end_of_text|>", "</s>"}) {
    for (const AddedPiece& added : pairs.added)
      if (added.special && pairs.pieces[static_cast<std::size_t>(added.id)] == usual) return added.id;
  }
  return pairs.eos;
}

}  // namespace

// The cache holds what a word was encoded as at the place that its hash gives, 4 MiB altogether: most words of a text are common.
struct ByteLevelTokenizer::Work {
  struct Cached {
    char word[22];
    std::uint8_t size = 0, ids = 0;  // 0 bytes: nothing yet
    TokenId id[10];
  };
  static constexpr std::size_t kCached = 1 << 16;

  explicit Work(const WordPattern& pattern) : words(pattern), cache(kCached) {}
  Words words;
  PairMerges::Room room;
  std::vector<Cached> cache;
};

ByteLevelTokenizer::ByteLevelTokenizer(const BytePairs& pairs, std::string model, const std::string& name)
    : Tokenizer(std::move(model), name), pattern_(pairs.words), merges_((check_byte_pairs(pairs, name), pairs)), nfc_(pairs.nfc) {
  fill_added(pairs);
  fill_pieces(pairs);
  const std::vector<TokenId> line_end = encode("\n");
  if (line_end.empty()) throw Error(fmt::format("{} has no piece for a line end: use a tokenizer that has one", name));
  line_end_ = line_end.front();
  document_end_ = usual_document_end(pairs);
  if (pairs.begins_with_bos) text_begin_ = pairs.bos;
  const auto text = [&](TokenId id) { return id == kNoToken ? std::string() : pairs.pieces[static_cast<std::size_t>(id)]; };
  chat_template_ = ChatTemplate::recognise(pairs.chat_template, text(pairs.bos), text(pairs.eos));
  if (pairs.eos != kNoToken) ends_.push_back(pairs.eos);
  if (!chat_template_) return;
  const std::vector<TokenId> turn_end = encode_marked(chat_template_->turn_end());
  if (turn_end.size() == 1 && turn_end[0] != pairs.eos) ends_.push_back(turn_end[0]);
}

ByteLevelTokenizer::~ByteLevelTokenizer() = default;

void ByteLevelTokenizer::fill_added(const BytePairs& pairs) {
  std::vector<AddedPieces::Piece> raw, normalized;
  for (const AddedPiece& piece : pairs.added) {
    const std::string& text = pairs.pieces[static_cast<std::size_t>(piece.id)];
    const std::string within = "x" + text;  // whatever comes before it
    bool whole = text.size() <= kLongestAdded;
    for (std::size_t at = 2; whole && at < within.size(); ++at) whole = !words_end(within, at);
    if (!whole)
      throw Error(fmt::format("{} has the added piece {}, which is too long or ends a word within: it cannot be used", name(),
                              quoted_piece(text)));
    if (piece.normalized) normalized.push_back({nfc_ ? nfc(text) : text, piece.id, piece.special});
    else raw.push_back({text, piece.id, piece.special});
  }
  added_ = AddedPieces(std::move(raw));
  added_normalized_ = AddedPieces(std::move(normalized));
}

void ByteLevelTokenizer::fill_pieces(const BytePairs& pairs) {
  std::vector<bool> special(pairs.pieces.size()), added(pairs.pieces.size());
  for (const AddedPiece& piece : pairs.added) {
    added[static_cast<std::size_t>(piece.id)] = true;
    special[static_cast<std::size_t>(piece.id)] = piece.special;
  }
  pieces_.offsets.push_back(0);
  for (std::size_t id = 0; id < pairs.pieces.size(); ++id) {
    const std::string& piece = pairs.pieces[id];
    if (!special[id]) pieces_.bytes += added[id] ? piece : spelt_bytes(piece).value();
    pieces_.offsets.push_back(static_cast<std::uint32_t>(pieces_.bytes.size()));
  }
  for (TokenId id = 0; pairs.whole_words && id < vocabulary(); ++id) {
    if (!added[static_cast<std::size_t>(id)]) whole_words_.emplace(piece_bytes(id), id);
  }
}

std::size_t ByteLevelTokenizer::encode_some(std::string_view text, bool last, std::vector<TokenId>& ids) const {
  return encode_all(text, last, false, ids);
}

std::vector<TokenId> ByteLevelTokenizer::encode_marked(std::string_view text) const {
  std::vector<TokenId> ids;
  encode_all(text, true, true, ids);
  return ids;
}

// In chunks that end where words end; the chunks do not decide about the ids.
std::size_t ByteLevelTokenizer::encode_all(std::string_view text, bool last, bool with_special, std::vector<TokenId>& ids) const {
  std::unique_lock lock(mutex_, std::try_to_lock);
  std::unique_ptr<Work> own;
  std::unique_ptr<Work>& work = lock ? work_ : own;
  if (!work) work = std::make_unique<Work>(pattern_);

  const std::size_t size = text.size();
  while (!text.empty()) {
    std::size_t end = text.size();
    if (!last || end > kLongest) {
      end = std::min(kLongest, text.size() - 1);
      while (end > 0 && !words_end(text, end)) --end;
      if (end == 0 && text.size() <= kLongest) break;  // what follows decides
      if (end == 0) end = segment_length(text, kLongest);
    }
    append_chunk(text.substr(0, end), with_special, *work, ids);
    text.remove_prefix(end);
  }
  return size - text.size();
}

void ByteLevelTokenizer::append_chunk(std::string_view text, bool with_special, Work& work, std::vector<TokenId>& ids) const {
  while (!text.empty()) {
    const std::size_t valid = std::min(find_invalid_utf8(text), text.size());
    for (std::size_t at = 0; at < valid;) {
      const AddedPieces::Found piece = added_.find(text.substr(0, valid), at, with_special);
      append_plain(text.substr(at, piece.begin - at), with_special, work, ids);
      if (piece.id != kNoToken) ids.push_back(piece.id);
      at = piece.end;
    }
    if (valid < text.size()) append_word(text.substr(valid, 1), work, ids);
    text.remove_prefix(std::min(valid + 1, text.size()));
  }
}

// Text without pieces that are found before it is normalised.
void ByteLevelTokenizer::append_plain(std::string_view text, bool with_special, Work& work, std::vector<TokenId>& ids) const {
  if (text.empty()) return;
  const std::string normalized = nfc_ ? nfc(text) : std::string();
  if (nfc_) text = normalized;
  for (std::size_t at = 0; at < text.size();) {
    const AddedPieces::Found piece = added_normalized_.find(text, at, with_special);
    append_words(text.substr(at, piece.begin - at), work, ids);
    if (piece.id != kNoToken) ids.push_back(piece.id);
    at = piece.end;
  }
}

void ByteLevelTokenizer::append_words(std::string_view text, Work& work, std::vector<TokenId>& ids) const {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t bytes = work.words.length(text, at);
    append_word(text.substr(at, bytes), work, ids);
    at += bytes;
  }
}

void ByteLevelTokenizer::append_word(std::string_view word, Work& work, std::vector<TokenId>& ids) const {
  if (!whole_words_.empty()) {
    if (const auto whole = whole_words_.find(word); whole != whole_words_.end()) return ids.push_back(whole->second);
  }
  Work::Cached& cached = work.cache[XXH3_64bits(word.data(), word.size()) % Work::kCached];
  if (std::string_view(cached.word, cached.size) == word) {
    ids.insert(ids.end(), cached.id, cached.id + cached.ids);
    return;
  }
  const std::size_t before = ids.size();
  merges_.append(word, work.room, ids);
  const std::size_t made = ids.size() - before;
  if (word.size() > sizeof cached.word || made > std::size(cached.id)) return;
  std::copy(word.begin(), word.end(), cached.word);
  std::copy(ids.end() - static_cast<std::ptrdiff_t>(made), ids.end(), cached.id);
  cached.size = static_cast<std::uint8_t>(word.size());
  cached.ids = static_cast<std::uint8_t>(made);
}

}  // namespace neurogen
