// Learning rates, and how tokens are sampled from predictions.
#pragma once
#include <cstdint>
#include <optional>

namespace neurogen {

struct Rates {
  // Of vectors (biases, taps, gains, time constants), or of everything under AdamW. Not set: 0.004; a transformer's under AdamW
  // 0.001.
  std::optional<double> learning_rate;
  std::optional<double> synapse;  // of matrices, by Muon: a brain's synapses. Not set: 0.01; a transformer's 0.02
  double table = 0.25;            // of the embedding and its pairs
  double decoder = 1e-3;
  std::int64_t warmup = 100;  // steps
};

// The formulas are in engine/run/sampler.h.
struct Sampling {
  double temperature = 0.8;       // 0: only the likeliest token
  std::int64_t top_k = 0;         // 0: all
  double top_p = 1, min_p = 0;    // 1, 0: all
  double repetition_penalty = 1;  // 1: none
  std::int64_t seed = 1;
};

}  // namespace neurogen
