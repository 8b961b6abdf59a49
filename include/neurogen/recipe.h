// Learning rates, and how tokens are sampled from predictions.
#pragma once
#include <cstdint>
#include <optional>

namespace neurogen {

// At their peak. Those that are not set are the model's own: a brain's 4e-3 and 0.01, a transformer's 4e-3 and 0.02, under AdamW
// 1e-3.
struct Rates {
  std::optional<double> learning_rate;  // of vectors: biases, taps, gains, time constants; of everything under AdamW
  std::optional<double> synapse_rate;   // of matrices, by Muon: a brain's synapses
  double table_rate = 0.25;             // of the embedding and its pairs
  double decoder_rate = 1e-3;
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
