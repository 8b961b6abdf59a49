// What this machine gives at best, measured in the run that it is compared with.
#pragma once
#include "tools/common/settings.h"

namespace neurogen {

struct Limits {
  std::int64_t square = 0;     // rows and columns of the product below
  double flops_per_s = 0;      // of one large square product in the type that the brain computes in
  double bytes_per_s = 0;      // of one large copy, bytes read and bytes written
  double decoder_seconds = 0;  // the decoder's three products of a step, each as one product: logits, d_features, d_weights
};

// Where `resolved` says, for steps of so many tokens; the best of a few times each.
Limits measure_limits(const Resolved& resolved, std::int64_t tokens);

}  // namespace neurogen
