// From logits to a token. In this order, each filter on what the previous one left:
//   repetition penalty r   x <- x > 0 ? x / r : x r  for every token of the text so far   (Keskar et al. 2019,
//                          arXiv:1909.05858, section 4.1; negative logits are multiplied, as is usual since, so that r > 1 always
//                          discourages)
//   temperature t          p = softmax(x / t);  t = 0: only the likeliest token
//   top-k                  keep the k likeliest tokens                                     (Fan et al. 2018, arXiv:1805.04833)
//   top-p                  keep the fewest likeliest that hold a share p of their sum      (Holtzman et al. 2020,
//                          arXiv:1904.09751)
//   min-p                  keep those at least m times as likely as the likeliest          (Nguyen et al. 2024,
//                          arXiv:2407.01082)
// and p is scaled to sum to 1. Among equally likely tokens the lower id comes first. Silenced tokens are never drawn.
#pragma once
#include <cstdint>
#include <span>

#include "arena/tensor_view.h"
#include "engine/graph/program.h"
#include "neurogen/recipe.h"

namespace neurogen {

// Memory of a sampler, [V] each, initially zero.
struct SamplerMemory {
  TensorView weights;                           // of the logits' type
  std::span<std::int32_t> order, seen, silent;  // tokens by likelihood, tokens of the text, tokens never drawn
  std::span<std::uint8_t> is_seen;
};
// The same on the heap, for logits of one type.
struct SamplerVectors {
  SamplerVectors(std::size_t vocabulary, DType type_)
      : type(type_), weights(vocabulary), order(vocabulary), seen(vocabulary), silent(vocabulary), is_seen(vocabulary) {}
  SamplerMemory memory() {
    return {make_view(weights.data(), type, {static_cast<std::int64_t>(weights.size())}), order, seen, silent, is_seen};
  }

  DType type;
  std::vector<double> weights;  // room for either type
  std::vector<std::int32_t> order, seen, silent;
  std::vector<std::uint8_t> is_seen;
};
// The same as planned buffers of the host arena.
struct SamplerTensors {
  TensorId weights, order, seen, silent, is_seen;
};
SamplerTensors declare_sampler(Graph& graph, std::int64_t vocabulary, DType logits);
SamplerMemory memory_of(const SamplerTensors& tensors, const Program& program);

class Sampler {
 public:
  // The memory must outlive the sampler. Equal seeds give equal tokens.
  Sampler(const SamplerMemory& memory, const Sampling& sampling) : sampling_(sampling), memory_(memory) {}

  // Changes the settings and restarts the draws from the seed.
  void use(const Sampling& sampling);
  void restart() { drawn_ = 0; }

  // Draws a token from logits [V]. Allocates nothing. Throws Error if a logit is not finite.
  std::int32_t draw(const TensorView& logits);
  // Unnormalised probabilities, [V], valid until the next call.
  const TensorView& weigh(const TensorView& logits);

  void silence(std::int32_t token) { memory_.silent[silent_++] = token; }  // never drawn; call once per token
  void note(std::int32_t token);                                           // adds it to the text
  void forget();                                                           // starts a new text

 private:
  template <typename Real>
  void weigh_all(const Real* logits);

  Sampling sampling_;
  std::uint64_t drawn_ = 0;
  SamplerMemory memory_;
  std::size_t seen_ = 0, silent_ = 0;  // how many
};

// log softmax(logits)[token] in nats, without temperature or filters.
double log_probability(const TensorView& logits, std::int32_t token);

}  // namespace neurogen
