#include "engine/data/tokens.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "arena/error.h"
#include "engine/data/text.h"
#include "engine/data/tokenizer.h"
#include "engine/files/json.h"

namespace neurogen {
namespace {

static_assert(std::endian::native == std::endian::little, "token files are mapped as they are, little-endian");

constexpr int kManifestLevels = 8;  // maximal nesting of corpus make's JSON; it has four
constexpr std::int32_t kMagic16 = 20240520, kVersion16 = 1, kMagic32 = 20240801, kVersion32 = 7;
constexpr std::size_t kTextPiece = 1 << 22;             // bytes of text that are encoded at once; more than a tokenizer holds back
constexpr std::int64_t kBlock = 1 << 14, kBlocks = 64;  // tokens per block, and blocks, of a text that is not read whole
constexpr std::size_t kHeaderBytes = sizeof(TokenHeader);

// First bytes of formats other than raw tokens, whatever the file's name.
constexpr std::pair<std::string_view, std::string_view> kOtherFiles[] = {
    {"\x93NUMPY", "a NumPy array (.npy)"},
    {"PK\3\4", "a zip archive (.zip, .npz, .pt)"},
    {"\x1F\x8B\x08", "compressed by gzip"},
    {{"\xFD"
      "7zXZ",
      5},
     "compressed by xz"},
    {"\x28\xB5\x2F\xFD", "compressed by zstd"},
    {"GGUF", "a GGUF file"},
};

void refuse_other_files(std::string_view text, const std::string& path) {
  for (const auto& [magic, what] : kOtherFiles) {
    if (!text.starts_with(magic)) continue;
    throw Error(fmt::format("{} is {}, not raw tokens: unpack or convert it, or make tokens with corpus tokenize", path, what));
  }
}

[[noreturn]] void refuse_token(TokenId id, std::int64_t position, std::int64_t vocabulary, std::string_view file) {
  throw Error(fmt::format("{} has token {} at position {}, but the vocabulary has {}: use the tokenizer that made the file", file,
                          id, position, vocabulary));
}

// Encodes piece by piece, so that no more than the stored ids exists whole.
template <typename Id>
std::vector<Id> encoded_as(std::string_view text, const Tokenizer& tokenizer) {
  std::vector<Id> all;
  std::vector<TokenId> ids;
  while (!text.empty()) {
    ids.clear();
    text.remove_prefix(tokenizer.encode_some(text.substr(0, kTextPiece), text.size() <= kTextPiece, ids));
    all.insert(all.end(), ids.begin(), ids.end());
  }
  return all;
}

}  // namespace

TokenHeader wide_header(std::uint64_t tokens, const std::string& path) {
  if (tokens > INT32_MAX)
    throw Error(fmt::format("{}: {} tokens are more than llm.c's header can name: make several files", path, tokens));
  return {kMagic32, kVersion32, static_cast<std::int32_t>(tokens)};
}

TokenId StoredTokens::operator[](std::size_t i) const {
  if (narrow_) return narrow_[i];
  return static_cast<TokenId>(std::min<std::uint32_t>(wide_[i], INT32_MAX));
}

void StoredTokens::read(std::size_t begin, std::span<TokenId> ids) const {
  if (narrow_) {
    std::copy_n(narrow_ + begin, ids.size(), ids.begin());
    return;
  }
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = (*this)[begin + i];
}

std::span<const std::byte> StoredTokens::bytes() const {
  return narrow_ ? std::as_bytes(std::span(narrow_, size_)) : std::as_bytes(std::span(wide_, size_));
}

TokenFile::TokenFile(const std::string& path) : file_(path) {
  std::span<const std::byte> bytes = file_.bytes();
  if (bytes.empty()) throw Error(fmt::format("{} is empty: make it with corpus tokenize", path));
  std::array<std::int32_t, 3> header{};  // magic, version, tokens
  if (bytes.size() >= kHeaderBytes) std::memcpy(header.data(), bytes.data(), sizeof header);
  refuse_other_files(file_.text(), path);
  const bool wide = header[0] == kMagic32;
  const std::size_t width = wide ? sizeof(std::uint32_t) : sizeof(std::uint16_t);
  if (wide || header[0] == kMagic16) {
    const std::int32_t version = wide ? kVersion32 : kVersion16;
    if (header[1] != version) {
      throw Error(fmt::format("{} has an llm.c header of version {}: only version {}, of {}-bit tokens, is read with magic {}",
                              path, header[1], version, 8 * width, header[0]));
    }
    bytes = bytes.subspan(kHeaderBytes);
    if (header[2] <= 0 || bytes.size() != static_cast<std::size_t>(header[2]) * width) {
      throw Error(fmt::format("{} has {} tokens according to its header, but {} bytes of them: it is damaged, make it again", path,
                              header[2], bytes.size()));
    }
  }
  if (bytes.size() % width != 0) {
    throw Error(
        fmt::format("{} has an odd number of bytes ({}): it is damaged or not a file of 16-bit tokens", path, bytes.size()));
  }
  if (wide) tokens_ = StoredTokens(std::span(reinterpret_cast<const std::uint32_t*>(bytes.data()), bytes.size() / width));
  else tokens_ = StoredTokens(std::span(reinterpret_cast<const std::uint16_t*>(bytes.data()), bytes.size() / width));
}

std::string mask_path(const std::string& tokens) {
  return tokens.substr(0, tokens.size() - std::string_view(".bin").size()) + ".mask";
}

NotedTokenizer noted_tokenizer(const std::string& path) {
  NotedTokenizer noted;
  for (const std::string_view end : {"-train.bin", "-valid.bin"}) {
    if (!path.ends_with(end)) continue;
    try {
      const std::string name = path.substr(0, path.size() - end.size()) + ".json";
      const auto manifest = parse_json(MappedFile(name).text(), kManifestLevels, name);
      const auto text = [&](const char* key) {
        const nlohmann::json::json_pointer at(std::string("/tokenizer/") + key);
        return manifest.contains(at) && manifest[at].is_string() ? manifest[at].get<std::string>() : "";
      };
      noted = {text("path"), text("xxh3")};
    } catch (const Error&) {  // ignore an unreadable note
    }
  }
  return noted;
}

Tokens::Encoded Tokens::encoded(std::string_view text, const Tokenizer& tokenizer) {
  if (tokenizer.vocabulary() > kNarrowVocabulary) return encoded_as<std::uint32_t>(text, tokenizer);
  return encoded_as<std::uint16_t>(text, tokenizer);
}

Tokens::Tokens(const std::vector<std::string>& paths, const Tokenizer* tokenizer, std::vector<std::int64_t> weights)
    : weights_(std::move(weights)) {
  if (paths.empty()) throw Error("no file to read: name one or several");
  for (const std::string& path : paths) {
    if (path.ends_with(".bin")) {
      parts_.push_back({path, files_.emplace_back(path).tokens()});
      add_mask(parts_.back());
    } else {
      const TextFile text(path);
      if (tokenizer == nullptr) {
        throw Error({path + " is read as text: give ", Field("tokenizer"), " FILE, or tokens in a .bin file"});
      }
      const Encoded& ids = texts_.emplace_back(encoded(text.text(), *tokenizer));
      parts_.push_back({path, std::visit([](const auto& v) { return StoredTokens(std::span(v)); }, ids)});
    }
    size_ += static_cast<std::int64_t>(parts_.back().tokens.size());
  }
}

void Tokens::add_mask(Part& part) {
  const std::string path = mask_path(part.path);
  if (!std::filesystem::exists(path)) return;
  part.mask = masks_.emplace_back(path).bytes();
  masked_ = true;
  if (part.mask.size() != part.tokens.size()) {
    throw Error(fmt::format("{} is for {} tokens, but {} has {}: make both again, or remove it to learn all tokens", path,
                            part.mask.size(), part.path, part.tokens.size()));
  }
  if (std::all_of(part.mask.begin(), part.mask.end(), [](std::byte b) { return b == std::byte{0}; }))
    throw Error(fmt::format("{} has no token to learn: make it from conversations in which the assistant speaks", path));
}

void Tokens::read(std::int64_t begin, std::span<TokenId> ids) const { read_parts(begin, ids, false); }
void Tokens::read_targets(std::int64_t begin, std::span<TokenId> ids) const { read_parts(begin, ids, masked_); }

void Tokens::read_parts(std::int64_t begin, std::span<TokenId> ids, bool masked) const {
  auto skip = static_cast<std::size_t>(begin);
  for (const Part& part : parts_) {
    if (skip < part.tokens.size()) {
      const std::size_t count = std::min(ids.size(), part.tokens.size() - skip);
      part.tokens.read(skip, ids.first(count));
      for (std::size_t i = 0; masked && !part.mask.empty() && i < count; ++i)
        if (part.mask[skip + i] == std::byte{0}) ids[i] = kNoToken;
      ids = ids.subspan(count);
      skip = 0;
    } else {
      skip -= part.tokens.size();
    }
  }
}

std::vector<TokenId> Tokens::all() const {
  std::vector<TokenId> ids(static_cast<std::size_t>(size_));
  read(0, ids);
  return ids;
}

Tokens::File Tokens::file(std::size_t index) const {
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < index; ++i) begin += static_cast<std::int64_t>(parts_[i].tokens.size());
  return {parts_[index].path, begin, static_cast<std::int64_t>(parts_[index].tokens.size())};
}

bool Tokens::read_whole() const { return size_ <= kReadWhole / static_cast<std::int64_t>(sizeof(std::uint16_t)); }

std::int64_t Tokens::block_begin(std::int64_t number) const { return (size_ - kBlock) * number / (kBlocks - 1); }

std::vector<TokenId> Tokens::block(std::int64_t number) const {
  std::vector<TokenId> ids(kBlock);
  read(block_begin(number), ids);
  return ids;
}

void Tokens::check_vocabulary(std::int64_t vocabulary) const {
  if (read_whole()) {
    for (const Part& part : parts_) neurogen::check_vocabulary(part.tokens, vocabulary, part.path);
    return;
  }
  for (std::int64_t b = 0; b < kBlocks; ++b) {
    const std::vector<TokenId> ids = block(b);
    const auto most = std::max_element(ids.begin(), ids.end());
    if (*most < vocabulary) continue;
    const std::int64_t at = block_begin(b) + (most - ids.begin());
    std::size_t i = 0;
    while (at >= file(i).begin + file(i).tokens) ++i;
    refuse_token(*most, at - file(i).begin, vocabulary, file(i).path);
  }
}

std::uint64_t Tokens::hash() const {
  if (read_whole() && weights_.empty() && !masked_) return hash_of_all();
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  const auto update = [&](std::uint64_t number) { XXH3_64bits_update(&state, &number, sizeof number); };
  for (std::size_t i = 0; i < weights_.size(); ++i) update(parts_[i].tokens.size());
  if (read_whole()) {
    update(hash_of_all());
  } else {
    update(static_cast<std::uint64_t>(size_));
    for (std::int64_t b = 0; b < kBlocks; ++b) XXH3_64bits_update(&state, block(b).data(), kBlock * sizeof(std::int32_t));
  }
  for (const Part& part : parts_) XXH3_64bits_update(&state, part.mask.data(), part.mask.size());
  return XXH3_64bits_digest(&state);
}

std::uint64_t Tokens::hash_of_all() const {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  for (const Part& part : parts_) XXH3_64bits_update(&state, part.tokens.bytes().data(), part.tokens.bytes().size());
  return XXH3_64bits_digest(&state);
}

void check_vocabulary(const StoredTokens& tokens, std::int64_t vocabulary, std::string_view name) {
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] >= vocabulary) refuse_token(tokens[i], static_cast<std::int64_t>(i), vocabulary, name);
}

std::int64_t windows(std::int64_t tokens, std::int64_t window) { return tokens > 0 ? (tokens - 1) / window : 0; }

}  // namespace neurogen
