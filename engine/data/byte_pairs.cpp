#include "engine/data/byte_pairs.h"

#include <fmt/format.h>

#include <unordered_map>
#include <unordered_set>

#include "arena/error.h"
#include "engine/files/json.h"
#include "engine/files/one_line.h"
#include "engine/files/utf8.h"

namespace neurogen {
namespace {

constexpr std::size_t kMostBytes = std::size_t{1} << 30;  // of all pieces: their offsets have 32 bits

struct Alphabet {
  std::array<std::string, 256> characters;
  std::unordered_map<std::string_view, char> bytes;

  Alphabet() {
    unsigned other = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      const unsigned code = itself ? byte : other++;
      if (code < 0x80) characters[byte] = {static_cast<char>(code)};
      else characters[byte] = {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
    }
    for (unsigned byte = 0; byte < 256; ++byte) bytes.emplace(characters[byte], static_cast<char>(byte));
  }
};

const Alphabet& alphabet() {
  static const Alphabet it;
  return it;
}

}  // namespace

const std::array<std::string, 256>& byte_alphabet() { return alphabet().characters; }

std::optional<std::string> spelt_bytes(std::string_view piece) {
  std::string bytes;
  while (!piece.empty()) {
    const std::size_t length = utf8_sequence(piece);
    const auto found = alphabet().bytes.find(piece.substr(0, length));
    if (found == alphabet().bytes.end()) return std::nullopt;
    bytes += found->second;
    piece.remove_prefix(length);
  }
  return bytes;
}

std::string quoted_piece(std::string_view piece) { return one_line(json_text(piece), 100); }

void check_byte_pairs(const BytePairs& pairs, const std::string& name) {
  const auto fail = [&](const std::string& what) {
    throw Error(fmt::format("{}: {}: it is damaged or not byte-level BPE", name, what));
  };
  const std::size_t size = pairs.pieces.size();
  if (size == 0 || size > kMostPieces)
    throw Error(fmt::format("{} has {} pieces: use a tokenizer of 1 to {}", name, size, kMostPieces));
  const auto exists = [&](TokenId id) { return id >= 0 && static_cast<std::size_t>(id) < size; };

  std::vector<bool> added(size), special(size);
  for (const AddedPiece& piece : pairs.added) {
    if (!exists(piece.id)) fail(fmt::format("an added piece has the id {}", piece.id));
    added[static_cast<std::size_t>(piece.id)] = true;
    special[static_cast<std::size_t>(piece.id)] = piece.special;
  }
  std::unordered_set<std::string_view> seen;
  std::size_t bytes = 0;
  for (std::size_t id = 0; id < size; ++id) {
    const std::string& piece = pairs.pieces[id];
    if (piece.empty()) fail(fmt::format("piece {} is empty", id));
    if (find_invalid_utf8(piece) != std::string::npos) fail(fmt::format("piece {} is not UTF-8", id));
    if (!seen.insert(piece).second) fail(fmt::format("piece {} occurs twice", quoted_piece(piece)));
    if (!added[id] && !spelt_bytes(piece)) fail(fmt::format("piece {}, {}, does not spell bytes", id, quoted_piece(piece)));
    bytes += piece.size();
  }
  if (bytes > kMostBytes) fail(fmt::format("its pieces have {} bytes", bytes));
  for (const BytePairs::Merge& merge : pairs.merges) {
    if (!exists(merge.left) || !exists(merge.right) || !exists(merge.whole)) fail("a merge names no piece");
    if (special[static_cast<std::size_t>(merge.whole)])
      fail(fmt::format("a merge makes the special piece {}", quoted_piece(pairs.pieces[static_cast<std::size_t>(merge.whole)])));
  }
  for (const TokenId id : {pairs.bos, pairs.eos}) {
    if (id != kNoToken && !exists(id)) fail(fmt::format("the id {} of its begin or end does not exist", id));
  }
}

}  // namespace neurogen
