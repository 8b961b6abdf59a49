// Samples from a model in training: continues the beginning of a text. Uses the program "evaluate", a whole batch per token, so
// that it needs no planned memory of its own.
#pragma once
#include <span>
#include <vector>

#include "engine/data/tokens.h"
#include "engine/model/model.h"
#include "engine/run/readout.h"
#include "engine/run/sampler.h"

namespace neurogen {

class SampleWriter {
 public:
  // Model and program must outlive the writer. The prompt is the first 16 tokens of the text, and 32 more are generated; fewer of
  // both in a short window. Every sample is drawn with the same seed.
  SampleWriter(const Model& model, Program& program, const Tokens& text, const Sampling& sampling);

  std::span<const std::int32_t> prompt() const { return {tokens_.data(), prompt_}; }
  void silence(std::int32_t token) { sampler_.silence(token); }  // never drawn
  // The tokens after the prompt, valid until the next call. Overwrites host_batch. Allocates nothing.
  std::span<const std::int32_t> write();

 private:
  void logits_behind(std::size_t length);

  const Model& model_;
  Program& program_;
  std::vector<std::int32_t> tokens_;
  std::size_t prompt_;
  std::vector<float> logits_;
  TensorView logits_view_;
  Readout readout_;
  Sampling sampling_;
  SamplerVectors memory_;
  Sampler sampler_;
};

}  // namespace neurogen
