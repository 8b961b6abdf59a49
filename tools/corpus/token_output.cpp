#include "tools/corpus/token_output.h"

#include <xxhash.h>

#include <algorithm>
#include <filesystem>

#include "engine/data/tokens.h"

namespace neurogen {
namespace {
constexpr std::size_t kBlock = 1 << 16;  // tokens read or written at once
constexpr std::size_t kPiece =
    1 << 16;  // bytes of text encoded at once, so that what waits for its end is not looked through often
}  // namespace

TokenOutput::TokenOutput(const std::string& path, const Tokenizer& tokenizer, bool masked)
    : path_(path), tokenizer_(tokenizer), wide_(tokenizer.vocabulary() > kNarrowVocabulary), file_(path) {
  if (wide_) file_.write(std::string(sizeof(TokenHeader), '\0'));  // until the number of tokens is known
  if (masked) mask_.emplace(mask_path(path));
}

std::size_t TokenOutput::place(std::uint64_t token) const {
  return wide_ ? sizeof(TokenHeader) + token * sizeof(TokenId) : token * sizeof(std::uint16_t);
}

void TokenOutput::add(std::string_view text) {
  text_ += text;
  if (text_.size() < waited_ + kPiece) return;
  text_.erase(0, tokenizer_.encode_some(text_, false, buffer_));
  waited_ = text_.size();
  if (buffer_.size() >= kBlock) flush();
}

void TokenOutput::add(TokenId id, bool learned) {
  buffer_.push_back(id);
  if (mask_) learned_.push_back(learned);
}

void TokenOutput::end_text() {
  tokenizer_.encode_some(text_, true, buffer_);
  text_.clear();
  waited_ = 0;
}

std::uint64_t TokenOutput::behind_lines(std::uint64_t begin, std::uint64_t lines) {
  flush();
  while (lines > 0 && begin < written_) {
    for (const TokenId id : read(begin)) {
      if (lines == 0) break;
      const std::string_view text = tokenizer_.piece_bytes(id);
      lines -= std::min<std::uint64_t>(lines, static_cast<std::uint64_t>(std::count(text.begin(), text.end(), '\n')));
      ++begin;
    }
  }
  return begin;
}

void TokenOutput::move(std::uint64_t begin, TokenOutput* to) {
  if (begin < written_) {
    flush();
    for (std::uint64_t at = begin; to && at < written_; at += block_.size()) {
      read(at);
      to->append(block_, learned_block_);
    }
    file_.cut(place(begin));
    if (mask_) mask_->cut(begin);
    written_ = begin;
  } else {
    const auto kept = static_cast<std::size_t>(begin - written_);
    if (to) to->append(std::span(buffer_).subspan(kept), std::span(learned_).subspan(mask_ ? kept : 0));
    buffer_.resize(kept);
    if (mask_) learned_.resize(kept);
  }
}

std::uint64_t TokenOutput::hash() {
  flush();
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (std::uint64_t at = 0; at < written_; at += block_.size()) {
    read(at);
    const std::span<const std::byte> stored = wide_ ? std::as_bytes(std::span(block_)) : std::as_bytes(std::span(narrow_));
    XXH3_64bits_update(&state, stored.data(), stored.size());
  }
  return XXH3_64bits_digest(&state);
}

void TokenOutput::commit() {
  flush();
  if (wide_) {
    const TokenHeader header = wide_header(written_, path_);
    file_.overwrite(0, header.data(), sizeof header);
  }
  if (mask_) mask_->commit();
  else if (path_.ends_with(".bin")) std::filesystem::remove(mask_path(path_));  // of older tokens: it would be taken for theirs
  file_.commit();
}

void TokenOutput::append(std::span<const TokenId> ids, std::span<const std::uint8_t> learned) {
  buffer_.insert(buffer_.end(), ids.begin(), ids.end());
  learned_.insert(learned_.end(), learned.begin(), learned.end());
  if (buffer_.size() >= kBlock) flush();
}

void TokenOutput::flush() {
  if (wide_) {
    file_.write(buffer_.data(), buffer_.size() * sizeof(TokenId));
  } else {
    narrow_.assign(buffer_.begin(), buffer_.end());
    file_.write(narrow_.data(), narrow_.size() * sizeof narrow_[0]);
  }
  if (mask_) mask_->write(learned_.data(), learned_.size());
  learned_.clear();
  written_ += buffer_.size();
  buffer_.clear();
}

std::span<const TokenId> TokenOutput::read(std::uint64_t begin) {
  const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(kBlock, written_ - begin));
  if (wide_) {
    block_.resize(count);
    file_.read(place(begin), block_.data(), count * sizeof(TokenId));
  } else {
    narrow_.resize(count);
    file_.read(place(begin), narrow_.data(), count * sizeof narrow_[0]);
    block_.assign(narrow_.begin(), narrow_.end());
  }
  if (mask_) {
    learned_block_.resize(count);
    mask_->read(begin, learned_block_.data(), count);
  }
  return block_;
}

}  // namespace neurogen
