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
    for (const std::uint16_t id : read(begin)) {
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
    XXH3_64bits_update(&state, block_.data(), block_.size() * sizeof block_[0]);
  }
  return XXH3_64bits_digest(&state);
}

void TokenOutput::commit() {
  flush();
  file_.commit();
}

void TokenOutput::append(std::span<const std::uint16_t> ids) {
  buffer_.insert(buffer_.end(), ids.begin(), ids.end());
  if (buffer_.size() >= kBlock) flush();
}

void TokenOutput::flush() {
  file_.write(buffer_.data(), buffer_.size() * sizeof buffer_[0]);
  written_ += buffer_.size();
  buffer_.clear();
}

std::span<const std::uint16_t> TokenOutput::read(std::uint64_t begin) {
  block_.resize(std::min<std::uint64_t>(kBlock, written_ - begin));
  file_.read(begin * sizeof(std::uint16_t), block_.data(), block_.size() * sizeof block_[0]);
  return block_;
}

}  // namespace neurogen
