// How fast a run learns.
#pragma once
#include <cstdint>

namespace neurogen {

struct Rates {
  double learning_rate = 4e-3, embedding = 3e-2, decoder = 1e-3;
  std::int64_t warmup = 100;  // steps
};

}  // namespace neurogen
