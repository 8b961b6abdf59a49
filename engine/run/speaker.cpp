#include "engine/run/speaker.h"

#include <algorithm>

namespace neurogen {

SpeakerTensors Speaker::declare(Model& model, const Tokenizer& tokenizer) {
  const PieceTable& pieces = tokenizer.pieces();
  const auto tensor = [&](const char* name, DType type, std::size_t elements) {
    return model.graph.tensor(name, type, {static_cast<std::int64_t>(elements)}, BufferKind::derived, ArenaKind::host);
  };
  return {declare_sampler(model.graph, model.architecture->vocabulary(), model.options.real()),
          tensor("pieces.bytes", DType::u8, pieces.bytes.size()), tensor("pieces.begin", DType::i32, pieces.offsets.size())};
}

Speaker::Speaker(const Model& model, Program& program, const SpeakerTensors& tensors, const Tokenizer& tokenizer,
                 const Sampling& sampling)
    : stream_(model, program), sampler_(memory_of(tensors.sampler, program), sampling) {
  const PieceTable& pieces = tokenizer.pieces();
  const TensorView bytes = program.view(tensors.piece_bytes), begin = program.view(tensors.piece_begin);
  std::copy(pieces.bytes.begin(), pieces.bytes.end(), bytes.as<char>());
  std::copy(pieces.offsets.begin(), pieces.offsets.end(), begin.as<std::int32_t>());
  bytes_ = {bytes.as<const char>(), pieces.bytes.size()};
  begin_ = {begin.as<const std::int32_t>(), pieces.offsets.size()};
  for (std::int32_t token = 0; token < model.architecture->vocabulary(); ++token) {
    longest_piece_ = std::max(longest_piece_, piece(token).size());
    // Tokens that decode to no text are never drawn, except those that end it.
    const std::vector<TokenId>& ends = tokenizer.ends();
    const bool ends_text = token == model.options.document_end || std::find(ends.begin(), ends.end(), token) != ends.end();
    if (piece(token).empty() && !ends_text) sampler_.silence(token);
  }
}

std::string_view Speaker::piece(std::int32_t token) const {
  const auto id = static_cast<std::size_t>(token);
  if (id + 1 >= begin_.size()) return {};
  return bytes_.substr(static_cast<std::size_t>(begin_[id]), static_cast<std::size_t>(begin_[id + 1] - begin_[id]));
}

void Speaker::reset() {
  stream_.reset();
  sampler_.forget();
  said_ = -1;
}

void Speaker::take_in(std::int32_t token) {
  logits_ = stream_.step(token);
  sampler_.note(token);
}

void Speaker::read(std::span<const TokenId> tokens) {
  if (said_ >= 0) take_in(said_);
  said_ = -1;
  for (const TokenId token : tokens) take_in(token);
}

Speaker::Said Speaker::speak() {
  if (said_ >= 0) take_in(said_);
  said_ = sampler_.draw(logits_);
  return {said_, piece(said_)};
}

}  // namespace neurogen
