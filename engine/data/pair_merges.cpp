#include "engine/data/pair_merges.h"

#include <algorithm>
#include <functional>

namespace neurogen {

PairMerges::PairMerges(const BytePairs& pairs) {
  std::unordered_map<std::string_view, TokenId> ids;
  for (std::size_t id = 0; id < pairs.pieces.size(); ++id) {
    if (pairs.pieces[id].size() <= 2) ids.emplace(pairs.pieces[id], static_cast<TokenId>(id));
  }
  for (const AddedPiece& added : pairs.added) {
    if (added.special) ids.erase(pairs.pieces[static_cast<std::size_t>(added.id)]);
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const auto found = ids.find(byte_alphabet()[byte]);
    bytes_[byte] = found == ids.end() ? kNoToken : found->second;
  }
  merges_.reserve(pairs.merges.size());
  for (std::size_t rank = 0; rank < pairs.merges.size(); ++rank) {
    const BytePairs::Merge& merge = pairs.merges[rank];
    merges_[key(merge.left, merge.right)] = {static_cast<std::int32_t>(rank), merge.whole};
  }
}

// Adds the merge of a symbol with the next one to the heap, if there is one.
void PairMerges::consider(Room& room, std::int32_t left) const {
  if (left < 0 || room.symbols[static_cast<std::size_t>(left)].next < 0) return;
  const Room::Symbol& symbol = room.symbols[static_cast<std::size_t>(left)];
  const auto merge = merges_.find(key(symbol.id, room.symbols[static_cast<std::size_t>(symbol.next)].id));
  if (merge == merges_.end()) return;
  room.heap.push_back({merge->second.rank, left, merge->second.whole});
  std::push_heap(room.heap.begin(), room.heap.end(), std::greater{});
}

void PairMerges::append(std::string_view word, Room& room, std::vector<TokenId>& ids) const {
  auto& symbols = room.symbols;
  symbols.clear();
  room.heap.clear();
  for (const char byte : word) {
    const TokenId id = bytes_[static_cast<unsigned char>(byte)];
    const auto at = static_cast<std::int32_t>(symbols.size());
    if (id != kNoToken) symbols.push_back({id, at - 1, at + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;
  for (std::int32_t at = 0; at < static_cast<std::int32_t>(symbols.size()); ++at) consider(room, at);

  while (!room.heap.empty()) {
    std::pop_heap(room.heap.begin(), room.heap.end(), std::greater{});
    const Room::Candidate best = room.heap.back();
    room.heap.pop_back();
    Room::Symbol& left = symbols[static_cast<std::size_t>(best.at)];
    if (left.id == kNoToken || left.next < 0) continue;
    Room::Symbol& right = symbols[static_cast<std::size_t>(left.next)];
    // A symbol may have changed since: then this is no longer its merge.
    const auto merge = merges_.find(key(left.id, right.id));
    if (merge == merges_.end() || merge->second.rank != best.rank) continue;
    left.id = best.whole;
    right.id = kNoToken;
    left.next = right.next;
    if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].before = best.at;
    consider(room, left.before);
    consider(room, best.at);
  }
  for (const Room::Symbol& symbol : symbols) {
    if (symbol.id != kNoToken) ids.push_back(symbol.id);
  }
}

}  // namespace neurogen
