#include "engine/run/speaker.h"

#include <algorithm>

namespace neurogen {

SpeakerTensors Speaker::declare(Model& model, const Tokenizer& tokenizer, std::int64_t tokens) {
  const PieceTable& pieces = tokenizer.pieces();
  const auto tensor = [&](const char* name, DType type, std::size_t elements) {
    return model.graph.tensor(name, type, {static_cast<std::int64_t>(elements)}, BufferKind::derived, ArenaKind::host);
  };
  SpeakerTensors all{
      {}, tensor("pieces.bytes", DType::u8, pieces.bytes.size()), tensor("pieces.begin", DType::i32, pieces.offsets.size()), {}};
  if (tokens > 0)
    all.said = model.graph.tensor("said", DType::i32, {model.options.streams, tokens}, BufferKind::derived, ArenaKind::host);
  for (std::int64_t i = 0; i < model.options.streams; ++i)
    all.samplers.push_back(declare_sampler(model.graph, model.architecture->vocabulary(), model.options.real()));
  return all;
}

Speaker::Speaker(const Model& model, Program& program, const SpeakerTensors& tensors, const Tokenizer& tokenizer,
                 const Sampling& sampling)
    : stream_(model, program), next_(tensors.samplers.size()), ended_(next_.size()), room_(next_.size()), made_(next_.size()) {
  for (const SamplerTensors& one : tensors.samplers) samplers_.emplace_back(memory_of(one, program), sampling);
  for (std::size_t i = 0; tensors.said && i < room_.size(); ++i) {
    const TensorView room = program.view(tensors.said).rows(static_cast<std::int64_t>(i), 1);
    room_[i] = {room.as<std::int32_t>(), static_cast<std::size_t>(room.elements())};
  }
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
    if (!piece(token).empty() || ends_text) continue;
    for (Sampler& sampler : samplers_) sampler.silence(token);
  }
}

std::string_view Speaker::piece(std::int32_t token) const {
  const auto id = static_cast<std::size_t>(token);
  if (id + 1 >= begin_.size()) return {};
  return bytes_.substr(static_cast<std::size_t>(begin_[id]), static_cast<std::size_t>(begin_[id + 1] - begin_[id]));
}

void Speaker::reset() {
  stream_.reset();
  for (Sampler& sampler : samplers_) sampler.forget();
  said_ = -1;
}

void Speaker::take_in(std::int32_t token) {
  logits_ = stream_.step(token);
  samplers_[0].note(token);
}

void Speaker::read(std::span<const TokenId> tokens) {
  if (said_ >= 0) take_in(said_);
  said_ = -1;
  for (const TokenId token : tokens) take_in(token);
}

Speaker::Said Speaker::speak() {
  if (said_ >= 0) take_in(said_);
  said_ = samplers_[0].draw(logits_);
  return {said_, piece(said_)};
}

std::size_t Speaker::speak(std::span<const std::vector<TokenId>> prompts, const std::function<bool(std::size_t, Said)>& take) {
  reset();
  for (Sampler& sampler : samplers_) sampler.restart();
  std::fill(next_.begin(), next_.end(), 0);
  std::fill(ended_.begin(), ended_.end(), false);
  std::fill(made_.begin(), made_.end(), 0);
  std::size_t live = prompts.size();
  for (std::size_t t = 0; live > 0 && static_cast<std::int64_t>(t) < stream_.positions(); ++t) {
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      if (ended_[i]) continue;
      if (t < prompts[i].size()) next_[i] = prompts[i][t];
      samplers_[i].note(next_[i]);
    }
    const TensorView logits = stream_.step(next_);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      if (ended_[i] || t + 1 < prompts[i].size()) continue;
      const std::int32_t token = next_[i] = room_[i][made_[i]++] = samplers_[i].draw(logits.rows(static_cast<std::int64_t>(i), 1));
      if (take(i, {token, piece(token)}) && made_[i] < room_[i].size()) continue;
      ended_[i] = true;
      --live;
    }
  }
  return live;
}

}  // namespace neurogen
