// Leaner ways to keep what AdamW updates (StepOptions), for advice.
#pragma once
#include <vector>

#include "engine/model/options.h"

namespace neurogen {

struct Leaner {
  const char *field, *value;  // "moments", "8bit"
  void (*apply)(StepOptions& options);
};

// Those that the options do not have and could, in the order in which to try them; none unless AdamW updates all.
std::vector<Leaner> leaner(const StepOptions& options);

}  // namespace neurogen
