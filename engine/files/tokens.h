// Token ids from files: raw little-endian uint16 mapped as it lies, text through a tokenizer at start-up.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/files/file_io.h"

namespace neurogen {

class Tokenizer;

inline constexpr std::int64_t kMaxVocabulary = 65536;  // ids are uint16

// A mapped `.bin`: ids one after another (nanoGPT's layout), or behind llm.c's header of 256 int32 (magic 20240520,
// version 1, number of tokens).
class TokenFile {
 public:
  // Throws Error that names the file: as MappedFile, empty, an odd number of bytes, a header that does not fit its file, another
  // kind of file by its first bytes.
  explicit TokenFile(const std::string& path);
  std::span<const std::uint16_t> tokens() const { return tokens_; }

 private:
  MappedFile file_;
  std::span<const std::uint16_t> tokens_;
};

// The tokenizer that made PREFIX-train.bin or PREFIX-valid.bin, as PREFIX.json has it; both empty if it says nothing.
struct NotedTokenizer {
  std::string path, hash;  // XXH3 in hexadecimal
};
NotedTokenizer noted_tokenizer(const std::string& path);

inline constexpr std::int64_t kMostWeight = 1'000'000;  // of a file, for drawing from several
inline constexpr std::int64_t kReadWhole = std::int64_t{1} << 30;

// One or several files, laid end to end: one stream of tokens.
class Tokens {
 public:
  // Files whose names end in `.bin` are mapped; any other is UTF-8 text and is encoded into memory by `tokenizer`, which may
  // be null where there is no text. Throws Error for no files, for text without tokenizer, and as TokenFile and TextFile.
  // `weights`: one a file, how often its windows are drawn (draws.h); none: all windows alike.
  Tokens(const std::vector<std::string>& paths, const Tokenizer* tokenizer, std::vector<std::int64_t> weights = {});

  std::int64_t size() const { return size_; }
  // Tokens [begin, begin + ids.size()) of the stream, which must lie inside it. Allocates nothing.
  void read(std::int64_t begin, std::span<std::int32_t> ids) const;
  // The stream in one piece: as it is mapped where there is one file, else copied into `room`.
  std::span<const std::uint16_t> whole(std::vector<std::uint16_t>& room) const;
  const std::vector<std::int64_t>& weights() const { return weights_; }
  struct File {
    const std::string& path;
    std::int64_t begin, tokens;  // in the stream
  };
  File file(std::size_t index) const;

  // Throws Error that names file, position and value of a token at or above the vocabulary. Reads as much as hash(); the rest is
  // checked as it is drawn.
  void check_vocabulary(std::int64_t vocabulary) const;
  // XXH3-64 of all ids, however they are cut into files; with weights, of the files' lengths too. For a text of more than
  // kReadWhole bytes, only its length and 64 blocks spread evenly over it are hashed.
  std::uint64_t hash() const;
  std::uint64_t hash_of_all() const;  // as earlier versions had it for texts of any length

 private:
  struct Part {
    std::string path;
    std::span<const std::uint16_t> tokens;
  };
  bool read_whole() const;
  std::vector<std::int32_t> block(std::int64_t number) const;

  std::vector<TokenFile> files_;                   // own the mapped parts
  std::vector<std::vector<std::uint16_t>> texts_;  // own the others
  std::vector<Part> parts_;
  std::int64_t size_ = 0;
  std::vector<std::int64_t> weights_;
};

void check_vocabulary(std::span<const std::uint16_t> tokens, std::int64_t vocabulary, std::string_view name);

// Windows of T tokens, each with its T targets one token further on: (tokens - 1) / T, 0 for a text shorter than one.
std::int64_t windows(std::int64_t tokens, std::int64_t window);

}  // namespace neurogen
