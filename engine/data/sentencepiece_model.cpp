// Reads and writes the wire format of protocol buffers (protobuf.dev/programming-guides/encoding); the fields' numbers are those of
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

constexpr std::uint64_t kPairs = 2;  // TrainerSpec.ModelType BPE

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string number(std::uint64_t field, std::uint64_t value) { return varint(field << 3) + varint(value); }
std::string text(std::uint64_t field, std::string_view bytes) {
  return varint(field << 3 | 2) + varint(bytes.size()) + std::string(bytes);
}
std::string real(std::uint64_t field, float value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return varint(field << 3 | 5) + bytes;
}

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

std::string sentencepiece_model(const SentencePieces& pieces) {
  constexpr std::int32_t kByte = 6;
  const bool has_bytes = std::find(pieces.kinds.begin(), pieces.kinds.end(), kByte) != pieces.kinds.end();
  std::string model;
  for (std::size_t id = 0; id < pieces.pieces.size(); ++id) {
    model +=
        text(1, text(1, pieces.pieces[id]) + real(2, pieces.scores[id]) + number(3, static_cast<std::uint64_t>(pieces.kinds[id])));
  }
  return model + text(2, number(3, kPairs) + number(35, has_bytes)) +  // byte_fallback
         text(3, text(1, "identity") + number(3, 0) + number(4, 0));   // as plain_sentence_pieces wants it
}

}  // namespace neurogen
