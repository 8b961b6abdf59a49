// A `.bin` in the making: text goes in a piece at a time and is tokenised; the file appears when it is whole.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/files/file_io.h"
#include "engine/files/tokenizer.h"

namespace neurogen {

class TokenOutput {
 public:
  // The tokenizer must outlive it.
  TokenOutput(const std::string& path, const Tokenizer& tokenizer) : path_(path), tokenizer_(tokenizer), file_(path) {}

  void add(std::string_view text);
  void end_text();  // what is added next does not go on with what was added so far
  void add(std::uint16_t id) { buffer_.push_back(id); }

  const std::string& path() const { return path_; }
  std::uint64_t tokens() const { return written_ + buffer_.size(); }  // of ended texts
  // Behind the `lines`-th line end from token `begin` on.
  std::uint64_t behind_lines(std::uint64_t begin, std::uint64_t lines);
  // The tokens from `begin` on leave, for the end of another output or, with null, for nothing.
  void move(std::uint64_t begin, TokenOutput* to);
  std::uint64_t hash();  // XXH3-64 of its tokens, as Tokens::hash()
  void commit();

 private:
  void append(std::span<const std::uint16_t> ids);
  void flush();
  std::span<const std::uint16_t> read(std::uint64_t begin);  // some of what was flushed

  std::string path_;
  const Tokenizer& tokenizer_;
  AtomicFile file_;
  std::string text_;                           // not encoded yet: what follows may belong to its last piece
  std::vector<std::uint16_t> buffer_, block_;  // not written yet; read back
  std::uint64_t written_ = 0;
};

}  // namespace neurogen
