// Finds the added pieces of a tokenizer in a text.
#pragma once
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "engine/data/token_id.h"

namespace neurogen {

class AddedPieces {
 public:
  struct Piece {
    std::string text;
    TokenId id;
    bool special;
  };
  AddedPieces() = default;
  // The texts are different, and none is empty.
  explicit AddedPieces(std::vector<Piece> pieces);

  struct Found {
    std::size_t begin, end;
    TokenId id;  // kNoToken: nothing more, and begin and end are the text's
  };
  // The first piece at or behind `begin`, of those that begin there the longest. A special one that is not wanted is passed over,
  // and what begins within it with it, as PyPI's tokenizers do.
  Found find(std::string_view text, std::size_t begin, bool with_special) const;

 private:
  const Piece* longest_at(std::string_view text) const;

  std::vector<Piece> pieces_;  // sorted by text
  std::array<bool, 256> first_{};
};

}  // namespace neurogen
