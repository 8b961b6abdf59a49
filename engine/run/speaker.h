// Reads and generates text token by token: a stream, samplers and the tokenizer's table, all in planned memory.
#pragma once
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/data/tokenizer.h"
#include "engine/run/sampler.h"
#include "engine/run/stream.h"

namespace neurogen {

// Buffers of the host arena for generation, besides the model's.
struct SpeakerTensors {
  std::vector<SamplerTensors> samplers;  // of each text
  TensorId piece_bytes, piece_begin;     // [bytes] u8, [pieces + 1] i32: the tokenizer's table
  TensorId said;                         // [options.streams, tokens] i32: room for what is said; empty if none was asked for
};

class Speaker {
 public:
  // Adds the buffers to a model of build_stream, for its options.streams texts, before its plan is made.
  // `tokens`: of each text, for said().
  static SpeakerTensors declare(Model& model, const Tokenizer& tokenizer, std::int64_t tokens = 0);
  // Model and program must outlive the speaker. Fills the buffers; the tokenizer is not needed afterwards.
  Speaker(const Model& model, Program& program, const SpeakerTensors& tensors, const Tokenizer& tokenizer,
          const Sampling& sampling);

  Sampler& sampler() { return samplers_[0]; }
  std::size_t longest_piece() const { return longest_piece_; }
  std::string_view piece(std::int32_t token) const;  // a token's text, in the arena

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
  // Continues at most options.streams prompts, none of them empty, at once, each as if it were alone, from empty memory: text i
  // goes on until take(i, said) returns false, its room is full, or the model's positions end. Returns how many ended for want of
  // positions.
  std::size_t speak(std::span<const std::vector<TokenId>> prompts, const std::function<bool(std::size_t, Said)>& take);
  // What text i has said since, in the arena.
  std::span<const std::int32_t> said(std::size_t i) const { return room_[i].first(made_[i]); }
  // [V], from which the latest token of a single text was drawn.
  const TensorView& logits() const { return logits_; }

 private:
  void take_in(std::int32_t token);

  Stream stream_;
  std::vector<Sampler> samplers_;
  TensorView logits_;
  std::string_view bytes_;
  std::span<const std::int32_t> begin_;
  std::size_t longest_piece_ = 0;
  std::int32_t said_ = -1;  // of a single text: drawn and not fed yet
  // Of several texts: what each is fed next, whether it has ended, its room for what it says, and the tokens there.
  std::vector<std::int32_t> next_;
  std::vector<bool> ended_;
  std::vector<std::span<std::int32_t>> room_;
  std::vector<std::size_t> made_;
};

}  // namespace neurogen
