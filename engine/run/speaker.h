// Reads and generates text token by token: a stream, a sampler and the tokenizer's table, all in planned memory.
#pragma once
#include <span>
#include <string_view>

#include "engine/data/tokenizer.h"
#include "engine/run/sampler.h"
#include "engine/run/stream.h"

namespace neurogen {

// Buffers of the host arena for generation, besides the model's.
struct SpeakerTensors {
  SamplerTensors sampler;
  TensorId piece_bytes, piece_begin;  // [bytes] u8, [pieces + 1] i32: the tokenizer's table
};

class Speaker {
 public:
  // Adds the buffers to a model of build_stream, before its plan is made.
  static SpeakerTensors declare(Model& model, const Tokenizer& tokenizer);
  // Model and program must outlive the speaker. Fills the buffers; the tokenizer is not needed afterwards.
  Speaker(const Model& model, Program& program, const SpeakerTensors& tensors, const Tokenizer& tokenizer,
          const Sampling& sampling);

  Sampler& sampler() { return sampler_; }
  std::size_t longest_piece() const { return longest_piece_; }

  // Clears the memory.
  void reset();
  // Feeds tokens of the text. Allocates nothing, and neither do the others.
  void read(std::span<const TokenId> tokens);

  struct Said {
    std::int32_t token;
    std::string_view text;  // in the arena
  };
  // Draws the next token of the text, after at least one has been read. It is fed by the next call of read or speak.
  Said speak();
  // [V], from which the latest token was drawn.
  const TensorView& logits() const { return logits_; }

 private:
  void take_in(std::int32_t token);
  std::string_view piece(std::int32_t token) const;

  Stream stream_;
  Sampler sampler_;
  TensorView logits_;
  std::string_view bytes_;
  std::span<const std::int32_t> begin_;
  std::size_t longest_piece_ = 0;
  std::int32_t said_ = -1;  // drawn and not fed yet
};

}  // namespace neurogen
