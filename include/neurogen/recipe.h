// Learning rates, and how tokens are sampled from predictions.
#pragma once
#include <cstdint>

namespace neurogen {

struct Rates {
  double learning_rate = 4e-3;  // of vectors: biases, taps, gains, time constants
  double synapse_rate = 0.01;   // of the synapses' matrices, by Muon
  double table_rate = 0.25;     // of the embedding and its pairs
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
