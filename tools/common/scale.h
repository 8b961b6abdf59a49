// The largest brain of given proportions for a budget.
#pragma once
#include "tools/common/settings.h"

namespace neurogen {

// Embedding, outputs and neurons grow or shrink together, in the smallest steps that keep their proportions; vocabulary and fan-ins
// stay. Throws Error if not even the smallest fits.
Architecture largest_like(const Resolved& resolved);

}  // namespace neurogen
