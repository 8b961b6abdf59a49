// Applies the merges of byte-pair encoding to a word.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/data/byte_pairs.h"

namespace neurogen {

// A tokenizer's merges, ready for use. Unchanging: threads may share it.
class PairMerges {
 public:
  explicit PairMerges(const BytePairs& pairs);

  // One thread's memory for a word; grows with the longest.
  struct Room {
    struct Symbol {
      TokenId id;                 // kNoToken: merged into the one before
      std::int32_t before, next;  // neighbours, -1: none
    };
    struct Candidate {
      std::int32_t rank, at;  // the merge, the left symbol
      TokenId whole;
      bool operator>(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };
  // Appends the ids of a word: of the merges that its symbols allow, the first in rank is applied, the leftmost first, until none
  // is left. A byte without piece is dropped, as PyPI's tokenizers do. O(n log n) for n bytes, at most 2^31.
  void append(std::string_view word, Room& room, std::vector<TokenId>& ids) const;

 private:
  struct Merge {
    std::int32_t rank;
    TokenId whole;
  };
  static std::uint64_t key(TokenId left, TokenId right) {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  void consider(Room& room, std::int32_t left) const;

  std::array<TokenId, 256> bytes_;
  std::unordered_map<std::uint64_t, Merge> merges_;
};

}  // namespace neurogen
