#include "engine/data/sentencepiece.h"

#include <fmt/format.h>
#include <sentencepiece_processor.h>

#include <algorithm>

#include "arena/error.h"
#include "engine/data/segment.h"

namespace neurogen {
namespace {

// The library uses a hundred bytes of memory per byte of a line, and some corpora are a single line.
constexpr std::size_t kSegment = 65536;

std::string bytes_of(const sentencepiece::SentencePieceProcessor& model, int id) {
  if (model.IsControl(id)) return "";
  if (model.IsUnknown(id)) return "\uFFFD";
  std::string piece = model.IdToPiece(id);
  if (model.IsByte(id)) return std::string(1, static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16)));  // <0x0A>
  for (std::size_t at = 0; (at = piece.find(kSpace, at)) != std::string::npos; ++at) piece.replace(at, kSpace.size(), 1, ' ');
  return piece;
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(std::string bytes, const std::string& path)
    : Tokenizer(std::move(bytes), path), processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {
  if (model().empty() || !processor_->LoadFromSerializedProto(model()).ok()) {
    throw Error(fmt::format("{} is not a SentencePiece model: make one with corpus train-tokenizer", path));
  }
  const int pieces = processor_->GetPieceSize();
  document_end_ = processor_->eos_id();
  pieces_.offsets.push_back(0);
  for (int id = 0; id < pieces; ++id) {
    pieces_.bytes += bytes_of(*processor_, id);
    pieces_.offsets.push_back(static_cast<std::uint32_t>(pieces_.bytes.size()));
  }
  spelt_.push_back({"\n", has_piece("\n") ? Ids{piece_id("\n")} : spell("\n")});
  if (spelt_.front().ids.empty()) {
    throw Error(
        fmt::format("{} has no piece for a line end, neither \"\\n\" nor <0x0A>: use a model with byte fallback, or make one "
                    "with corpus train-tokenizer",
                    path));
  }
  line_end_ = text_begin_ = spelt_.front().ids.front();  // a prompt begins a line
  spelt_.push_back({kSpace, spell(kSpace)});
  if (!has_piece(kSpace)) spelt_.push_back({" ", spell(" ")});  // the library would encode it as the bytes of U+2581
  std::erase_if(spelt_, [](const Spelt& spelt) { return spelt.ids.empty(); });
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

TokenId SentencePieceTokenizer::piece_id(std::string_view piece) const { return processor_->PieceToId(piece); }

bool SentencePieceTokenizer::has_piece(std::string_view piece) const { return !processor_->IsUnknown(piece_id(piece)); }

SentencePieceTokenizer::Ids SentencePieceTokenizer::spell(std::string_view text) const {
  Ids ids;
  for (const char byte : text) {
    ids.push_back(piece_id(fmt::format("<0x{:02X}>", static_cast<unsigned char>(byte))));
    if (!processor_->IsByte(ids.back())) return {};
  }
  return ids;
}

void SentencePieceTokenizer::append_segment(std::string_view text, std::vector<TokenId>& ids) const {
  std::vector<int> encoded;
  if (const auto status = processor_->Encode(text, &encoded); !status.ok()) {
    throw Error(fmt::format("{} cannot encode a text: {}", name(), status.message()), Error::kRunTime);
  }
  ids.insert(ids.end(), encoded.begin(), encoded.end());
}

std::size_t SentencePieceTokenizer::encode_some(std::string_view text, bool last, std::vector<TokenId>& ids) const {
  const std::size_t size = text.size();
  while (!text.empty()) {
    const auto spelt = std::find_if(spelt_.begin(), spelt_.end(), [&](const Spelt& spelt) { return text.starts_with(spelt.text); });
    if (spelt != spelt_.end()) {
      ids.insert(ids.end(), spelt->ids.begin(), spelt->ids.end());
      text.remove_prefix(spelt->text.size());
      continue;
    }
    // Look no further for the end of a run: a longer one is split whatever follows.
    std::string_view run = text.substr(0, kSegment + kSpace.size());
    for (const Spelt& spelt : spelt_) run = run.substr(0, run.find(spelt.text));
    if (run.size() == text.size() && !last) break;
    const std::string_view segment = run.substr(0, segment_length(run, kSegment));
    append_segment(segment, ids);
    text.remove_prefix(segment.size());
  }
  return size - text.size();
}

}  // namespace neurogen
