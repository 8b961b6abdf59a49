// The machine's best rates, measured in the same run as the times compared with them.
#pragma once
#include "tools/common/settings.h"

namespace neurogen {

struct Limits {
  std::int64_t square = 0;     // rows and columns of the product below
  double flops_per_s = 0;      // one large square product in the model's compute type
  double bytes_per_s = 0;      // one large copy, bytes read plus bytes written
  double decoder_seconds = 0;  // the decoder's three products in a step, each as one product: logits, d_features, d_weights
};

// Measures the device of `resolved` for steps of `tokens` tokens; the best of five runs each.
Limits measure_limits(const Resolved& resolved, std::int64_t tokens);

}  // namespace neurogen
