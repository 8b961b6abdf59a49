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
};

class Speaker {
 public:
  // Adds the buffers to a model of build_stream, for its options.streams texts, before its plan is made.
  static SpeakerTensors declare(Model& model, const Tokenizer& tokenizer);
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
  // Continues at most options.streams prompts, none of them empty, at once, each as if it were alone: draws tokens of text i until
  // take(i, said) returns false. Starts from empty memory. Throws Error as Stream.
  void speak(std::span<const std::vector<TokenId>> prompts, const std::function<bool(std::size_t, Said)>& take);
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
  std::int32_t said_ = -1;          // of a single text: drawn and not fed yet
  std::vector<std::int32_t> next_;  // of several texts: what each is fed next
  std::vector<bool> ended_;         // likewise
};

}  // namespace neurogen
