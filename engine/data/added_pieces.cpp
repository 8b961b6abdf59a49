#include "engine/data/added_pieces.h"

#include <algorithm>

namespace neurogen {

AddedPieces::AddedPieces(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {
  std::sort(pieces_.begin(), pieces_.end(), [](const Piece& a, const Piece& b) { return a.text < b.text; });
  for (const Piece& piece : pieces_) first_[static_cast<unsigned char>(piece.text.front())] = true;
}

// Narrows the sorted range byte by byte, so that a text costs no more than its bytes times the logarithm of the number of pieces.
const AddedPieces::Piece* AddedPieces::longest_at(std::string_view text) const {
  const Piece* found = nullptr;
  auto begin = pieces_.begin(), end = pieces_.end();
  for (std::size_t n = 0; begin != end; ++n) {
    if (begin->text.size() == n) found = &*begin++;  // the shortest of a range comes first
    if (n == text.size()) break;
    const auto byte = static_cast<unsigned char>(text[n]);
    begin = std::partition_point(begin, end, [&](const Piece& p) { return static_cast<unsigned char>(p.text[n]) < byte; });
    end = std::partition_point(begin, end, [&](const Piece& p) { return static_cast<unsigned char>(p.text[n]) == byte; });
  }
  return found;
}

AddedPieces::Found AddedPieces::find(std::string_view text, std::size_t begin, bool with_special) const {
  while (!pieces_.empty() && begin < text.size()) {
    const Piece* const piece = first_[static_cast<unsigned char>(text[begin])] ? longest_at(text.substr(begin)) : nullptr;
    const std::size_t bytes = piece ? piece->text.size() : 1;
    if (piece && (with_special || !piece->special)) return {begin, begin + bytes, piece->id};
    begin += bytes;
  }
  return {text.size(), text.size(), kNoToken};
}

}  // namespace neurogen
