// Reads a SentencePiece model's pieces from its file, and writes such a file: the library does not give all of it.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace neurogen {

struct SentencePieces {
  std::vector<std::string> pieces;  // by id
  std::vector<float> scores;        // pairs with the highest score are merged first
  std::vector<std::int32_t>
      kinds;  // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte, as llama.cpp numbers them too
};

// `model`: one that the library reads. None unless it merges pairs of pieces (BPE) of the text as it is, with nothing normalised,
// removed or put in front.
std::optional<SentencePieces> plain_sentence_pieces(std::string_view model);

// A model of these, the inverse, which lacks what the library does not need.
std::string sentencepiece_model(const SentencePieces& pieces);

}  // namespace neurogen
