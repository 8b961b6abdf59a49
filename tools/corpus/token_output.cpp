#include "tools/corpus/token_output.h"

#include <xxhash.h>

#include <algorithm>

namespace neurogen {
namespace {
constexpr std::size_t kBlock = 1 << 16;  // tokens read or written at once
}

void TokenOutput::add(std::string_view text) {
  text_ += text;
  text_.erase(0, tokenizer_.encode_some(text_, false, buffer_));
  if (buffer_.size() >= kBlock) flush();
}

void TokenOutput::end_text() {
  tokenizer_.encode_some(text_, true, buffer_);
  text_.clear();
}

std::uint64_t TokenOutput::behind_lines(std::uint64_t begin, std::uint64_t lines) {
  flush();
  while (lines > 0 && begin < written_) {
    for (const TokenId id : read(begin)) {
      if (lines == 0) break;
      lines -= id == tokenizer_.line_end();
      ++begin;
    }
  }
  return begin;
}

void TokenOutput::move(std::uint64_t begin, TokenOutput* to) {
  if (begin < written_) {
    flush();
    for (std::uint64_t at = begin; to && at < written_; at += block_.size()) to->append(read(at));
    file_.cut(begin * sizeof(std::uint16_t));
    written_ = begin;
  } else {
    const auto kept = static_cast<std::size_t>(begin - written_);
    if (to) to->append(std::span(buffer_).subspan(kept));
    buffer_.resize(kept);
  }
}

std::uint64_t TokenOutput::hash() {
  flush();
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (std::uint64_t at = 0; at < written_; at += block_.size()) {
    read(at);
    XXH3_64bits_update(&state, narrow_.data(), narrow_.size() * sizeof narrow_[0]);
  }
  return XXH3_64bits_digest(&state);
}

void TokenOutput::commit() {
  flush();
  file_.commit();
}

void TokenOutput::append(std::span<const TokenId> ids) {
  buffer_.insert(buffer_.end(), ids.begin(), ids.end());
  if (buffer_.size() >= kBlock) flush();
}

void TokenOutput::flush() {
  narrow_.assign(buffer_.begin(), buffer_.end());
  file_.write(narrow_.data(), narrow_.size() * sizeof narrow_[0]);
  written_ += buffer_.size();
  buffer_.clear();
}

std::span<const TokenId> TokenOutput::read(std::uint64_t begin) {
  narrow_.resize(std::min<std::uint64_t>(kBlock, written_ - begin));
  file_.read(begin * sizeof(std::uint16_t), narrow_.data(), narrow_.size() * sizeof narrow_[0]);
  block_.assign(narrow_.begin(), narrow_.end());
  return block_;
}

}  // namespace neurogen
