// Token ids from files: raw little-endian uint16 or uint32 is mapped, text is tokenized at start-up.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/data/token_id.h"
#include "engine/files/file_io.h"

namespace neurogen {

class Tokenizer;

// Vocabularies up to this size are written with 16-bit ids and no header, larger ones with 32-bit ids and llm.c's header.
inline constexpr std::int64_t kNarrowVocabulary = 65536;
using TokenHeader = std::array<std::int32_t, 256>;
// Throws Error, beginning with `path`, for more tokens than the header can name.
TokenHeader wide_header(std::uint64_t tokens, const std::string& path);

// Ids as a file holds them: 16 or 32 bits each. Does not own them.
class StoredTokens {
 public:
  StoredTokens() = default;
  explicit StoredTokens(std::span<const std::uint16_t> ids) : narrow_(ids.data()), size_(ids.size()) {}
  explicit StoredTokens(std::span<const std::uint32_t> ids) : wide_(ids.data()), size_(ids.size()) {}

  std::size_t size() const { return size_; }
  // Not negative: a stored id above INT32_MAX, which no vocabulary has, is read as INT32_MAX.
  TokenId operator[](std::size_t i) const;
  // Reads the ids [begin, begin + ids.size()), which must exist.
  void read(std::size_t begin, std::span<TokenId> ids) const;
  std::span<const std::byte> bytes() const;

 private:
  const std::uint16_t* narrow_ = nullptr;  // one of the two
  const std::uint32_t* wide_ = nullptr;
  std::size_t size_ = 0;
};

// A mapped `.bin` file: 16-bit ids only (nanoGPT's layout), or ids after llm.c's header of 256 int32: magic, version, number of
// tokens. Magic 20240520 with version 1 has 16-bit ids, 20240801 with version 7 has 32-bit ids.
class TokenFile {
 public:
  // Throws Error that names the file: as MappedFile, empty, an odd number of bytes, a header that does not match the file, or
  // another format according to its first bytes.
  explicit TokenFile(const std::string& path);
  StoredTokens tokens() const { return tokens_; }

 private:
  MappedFile file_;
  StoredTokens tokens_;
};

// The file beside FILE.bin, FILE.mask, that says which tokens are learned: a byte for each, 0 for those that are only read. Without
// such a file all are learned.
std::string mask_path(const std::string& tokens);

// The tokenizer that made PREFIX-train.bin or PREFIX-valid.bin, according to PREFIX.json; both fields empty if unknown.
struct NotedTokenizer {
  std::string path, hash;  // XXH3 in hexadecimal
};
NotedTokenizer noted_tokenizer(const std::string& path);

inline constexpr std::int64_t kMostWeight = 1'000'000;  // maximal sampling weight of a file
inline constexpr std::int64_t kReadWhole = std::int64_t{1} << 30;

// One or several files, concatenated into one stream of tokens.
class Tokens {
 public:
  // Files whose names end in `.bin` are mapped, with their masks; any other is UTF-8 text and is encoded into memory by
  // `tokenizer`, which may be null if there is no text. `weights`: one per file, how often its windows are drawn (draws.h); empty:
  // all windows equally. Throws Error for no files, for text without tokenizer, for a mask of another length, and as TokenFile and
  // TextFile.
  Tokens(const std::vector<std::string>& paths, const Tokenizer* tokenizer, std::vector<std::int64_t> weights = {});

  std::int64_t size() const { return size_; }
  // Reads tokens [begin, begin + ids.size()), which must be inside the stream. Allocates nothing.
  void read(std::int64_t begin, std::span<TokenId> ids) const;
  // The same as targets: kNoToken where a token is not learned.
  void read_targets(std::int64_t begin, std::span<TokenId> ids) const;
  bool masked() const { return masked_; }  // whether some file has a mask
  // A copy of the whole stream.
  std::vector<TokenId> all() const;
  const std::vector<std::int64_t>& weights() const { return weights_; }
  struct File {
    const std::string& path;
    std::int64_t begin, tokens;  // in the stream
  };
  File file(std::size_t index) const;

  // Throws Error that names the file and value of a token at or above the vocabulary. Reads as much as hash(); the rest is checked
  // when it is drawn.
  void check_vocabulary(std::int64_t vocabulary) const;
  // XXH3-64 of all ids as stored, independent of the division into files; with weights, also of the files' lengths, and with masks
  // also of those. For a text of more than kReadWhole bytes, only its length and 64 blocks spread evenly over it are hashed.
  std::uint64_t hash() const;

 private:
  struct Part {
    std::string path;
    StoredTokens tokens;
    std::span<const std::byte> mask{};  // empty: all are learned
  };
  void add_mask(Part& part);
  void read_parts(std::int64_t begin, std::span<TokenId> ids, bool masked) const;
  bool read_whole() const;
  std::uint64_t hash_of_all() const;
  std::int64_t block_begin(std::int64_t number) const;
  std::vector<TokenId> block(std::int64_t number) const;

  using Encoded = std::variant<std::vector<std::uint16_t>, std::vector<std::uint32_t>>;
  static Encoded encoded(std::string_view text, const Tokenizer& tokenizer);

  std::vector<TokenFile> files_;   // own the mapped parts
  std::vector<MappedFile> masks_;  // and their masks
  std::vector<Encoded> texts_;     // own the others
  std::vector<Part> parts_;
  std::int64_t size_ = 0;
  bool masked_ = false;
  std::vector<std::int64_t> weights_;
};

void check_vocabulary(const StoredTokens& tokens, std::int64_t vocabulary, std::string_view name);

// Number of windows of T tokens, each with T targets one token further on: (tokens - 1) / T.
std::int64_t windows(std::int64_t tokens, std::int64_t window);

}  // namespace neurogen
