#include "engine/files/tokenizer.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>
#include <xxhash.h>

#include <algorithm>

#include "arena/error.h"
#include "engine/files/file_io.h"
#include "engine/files/segment.h"
#include "engine/files/tokens.h"

namespace neurogen {
namespace {

// SentencePiece writes a space as this character, which therefore stands for a space when it is read back.
constexpr std::string_view kSpace = "\u2581";
// The library takes a hundred bytes of memory for each of a line, and some corpora are a single line.
constexpr std::size_t kSegment = 65536;

std::string bytes_of(const sentencepiece::SentencePieceProcessor& model, int id) {
  if (id == model.eos_id()) return "\n";
  if (model.IsControl(id)) return "";
  if (model.IsUnknown(id)) return "\uFFFD";
  std::string piece = model.IdToPiece(id);
  if (model.IsByte(id)) return std::string(1, static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16)));  // <0x0A>
  for (std::size_t at = 0; (at = piece.find(kSpace, at)) != std::string::npos; ++at) piece.replace(at, kSpace.size(), 1, ' ');
  return piece;
}

}  // namespace

Tokenizer::Tokenizer(const std::string& path) : Tokenizer(std::string(MappedFile(path).text()), path) {}

Tokenizer::Tokenizer(std::string model, const std::string& path)
    : name_(path), model_(std::move(model)), processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {
  if (model_.empty() || !processor_->LoadFromSerializedProto(model_).ok()) {
    throw Error(fmt::format("{} is not a SentencePiece model: make one with corpus train-tokenizer", path));
  }
  const int vocabulary = processor_->GetPieceSize();
  if (vocabulary > kMaxVocabulary) {
    throw Error(fmt::format("{} has {} pieces, more than 16-bit tokens can name: use a model of at most {}", path, vocabulary,
                            kMaxVocabulary));
  }
  if (processor_->eos_id() < 0) throw Error(fmt::format("{} has no piece </s>, which ends a line: use a model with one", path));
  line_end_ = static_cast<std::uint16_t>(processor_->eos_id());
  document_end_ = processor_->bos_id();
  hash_ = XXH3_64bits(model_.data(), model_.size());
  pieces_.offsets.push_back(0);
  for (int id = 0; id < vocabulary; ++id) {
    pieces_.bytes += bytes_of(*processor_, id);
    pieces_.offsets.push_back(static_cast<std::uint32_t>(pieces_.bytes.size()));
  }
  for (const char byte : kSpace) {
    const int id = processor_->PieceToId(fmt::format("<0x{:02X}>", static_cast<unsigned char>(byte)));
    if (processor_->IsByte(id)) escaped_space_.push_back(static_cast<std::uint16_t>(id));
  }
}

Tokenizer::~Tokenizer() = default;

void Tokenizer::append_segment(std::string_view text, std::vector<std::uint16_t>& ids) const {
  std::vector<int> encoded;
  if (const auto status = processor_->Encode(text, &encoded); !status.ok()) {
    throw Error(fmt::format("text cannot be encoded: {}", status.message()), Error::kRunTime);
  }
  ids.insert(ids.end(), encoded.begin(), encoded.end());
}

std::size_t Tokenizer::encode_some(std::string_view text, bool last, std::vector<std::uint16_t>& ids) const {
  const std::size_t size = text.size();
  while (!text.empty()) {
    if (text.front() == '\n') {
      ids.push_back(line_end_);
      text.remove_prefix(1);
      continue;
    }
    if (!escaped_space_.empty() && text.starts_with(kSpace)) {
      ids.insert(ids.end(), escaped_space_.begin(), escaped_space_.end());
      text.remove_prefix(kSpace.size());
      continue;
    }
    // As far as one looks for the end of a run: a longer one is cut whatever follows.
    const std::string_view near = text.substr(0, kSegment + kSpace.size());
    std::string_view run = near.substr(0, near.find('\n'));
    if (!escaped_space_.empty()) run = run.substr(0, run.find(kSpace));
    if (run.size() == text.size() && !last) break;
    const std::string_view segment = run.substr(0, segment_length(run, kSegment));
    append_segment(segment, ids);
    text.remove_prefix(segment.size());
  }
  return size - text.size();
}

std::vector<std::uint16_t> Tokenizer::encode(std::string_view text) const {
  std::vector<std::uint16_t> ids;
  encode_some(text, true, ids);
  return ids;
}

std::string Tokenizer::decode(std::span<const std::uint16_t> ids) const {
  std::string text;
  for (const std::uint16_t id : ids) text += piece_bytes(id);
  return text;
}

std::string_view Tokenizer::piece_bytes(std::uint16_t id) const {
  if (id >= vocabulary()) return {};
  const std::uint32_t begin = pieces_.offsets[id];
  return std::string_view(pieces_.bytes).substr(begin, pieces_.offsets[id + 1u] - begin);
}

}  // namespace neurogen
