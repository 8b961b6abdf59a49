// Writes a `.bin` file of ids (tokens.h) from text that arrives in pieces; the file appears when it is complete.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/data/tokenizer.h"
#include "engine/files/atomic_file.h"

namespace neurogen {

class TokenOutput {
 public:
  // The tokenizer must outlive it. `masked`: writes a mask beside it.
  TokenOutput(const std::string& path, const Tokenizer& tokenizer, bool masked = false);

  void add(std::string_view text);
  void end_text();  // the next text starts anew
  void add(TokenId id, bool learned = true);

  const std::string& path() const { return path_; }
  std::uint64_t tokens() const { return written_ + buffer_.size(); }  // of the texts ended so far
  // The position after the token with the `lines`-th line end from token `begin` on.
  std::uint64_t behind_lines(std::uint64_t begin, std::uint64_t lines);
  // Moves the tokens from `begin` on to the end of `to`, or deletes them if `to` is null.
  void move(std::uint64_t begin, TokenOutput* to);
  std::uint64_t hash();  // XXH3-64 of its tokens, like Tokens::hash()
  void commit();

 private:
  void append(std::span<const TokenId> ids, std::span<const std::uint8_t> learned);
  void flush();
  // A block of the written tokens, into block_, and of their mask, into learned_block_.
  std::span<const TokenId> read(std::uint64_t begin);
  std::size_t place(std::uint64_t token) const;  // in the file

  std::string path_;
  const Tokenizer& tokenizer_;
  const bool wide_;  // 32-bit ids
  AtomicFile file_;
  std::optional<AtomicFile> mask_;
  std::size_t waited_ = 0;                             // bytes of text_ that did not end when it was last encoded
  std::string text_;                                   // not encoded yet: its last piece may still grow
  std::vector<TokenId> buffer_, block_;                // not written yet; read back
  std::vector<std::uint8_t> learned_, learned_block_;  // the same of the mask
  std::vector<std::uint16_t> narrow_;                  // a block as a file of 16-bit ids holds it
  std::uint64_t written_ = 0;
};

}  // namespace neurogen
