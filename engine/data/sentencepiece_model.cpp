// Reads the wire format of protocol buffers (protobuf.dev/programming-guides/encoding); the fields' numbers are those of
// SentencePiece's sentencepiece_model.proto.
#include "engine/data/sentencepiece_model.h"

#include <algorithm>
#include <cstring>

namespace neurogen {
namespace {

// The fields of a message, one after the other. What is cut off ends it.
class Fields {
 public:
  explicit Fields(std::string_view message) : rest_(message) {}

  bool next() {
    if (rest_.empty()) return false;
    const std::uint64_t tag = varint();
    field = tag >> 3;
    number = 0, bytes = {};
    switch (tag & 7) {
      case 0:
        number = varint();
        return true;
      case 1:
        return take(8);
      case 2:
        return take(varint());
      case 5:
        return take(4);
      default:
        return false;
    }
  }
  float real() const {
    float value = 0;
    if (bytes.size() == sizeof value) std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }

  std::uint64_t field = 0, number = 0;
  std::string_view bytes;  // of a text, a message or a number of fixed width

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) break;
    }
    return value;
  }
  bool take(std::uint64_t size) {
    if (size > rest_.size()) return false;
    bytes = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return true;
  }

  std::string_view rest_;
};

void append_piece(std::string_view message, SentencePieces& to) {
  std::string_view piece;
  float score = 0;
  std::int32_t kind = 1;
  for (Fields f(message); f.next();) {
    if (f.field == 1) piece = f.bytes;
    else if (f.field == 2) score = f.real();
    else if (f.field == 3) kind = static_cast<std::int32_t>(f.number);
  }
  to.pieces.emplace_back(piece);
  to.scores.push_back(score);
  to.kinds.push_back(kind);
}

}  // namespace

std::optional<SentencePieces> plain_sentence_pieces(std::string_view model) {
  constexpr std::uint64_t kPairs = 2;  // TrainerSpec.ModelType BPE
  SentencePieces found;
  bool pairs = false, normalizes = false, prefix = true, removes = true;  // the format's defaults
  for (Fields f(model); f.next();) {
    if (f.field == 1) append_piece(f.bytes, found);
    for (Fields trainer(f.field == 2 ? f.bytes : ""); trainer.next();)
      if (trainer.field == 3) pairs = trainer.number == kPairs;
    for (Fields normalizer(f.field == 3 ? f.bytes : ""); normalizer.next();) {
      if (normalizer.field == 2) normalizes = !normalizer.bytes.empty();
      else if (normalizer.field == 3) prefix = normalizer.number != 0;
      else if (normalizer.field == 4) removes = normalizer.number != 0;
    }
  }
  if (!pairs || normalizes || prefix || removes) return std::nullopt;
  return found;
}

}  // namespace neurogen
