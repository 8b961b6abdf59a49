// The largest model of given proportions for a budget.
#pragma once
#include "tools/common/settings.h"

namespace neurogen {

// All widths grow or shrink together, in the smallest steps that keep their proportions; vocabulary and fan-ins
// stay. Throws Error if not even the smallest fits.
ArchitecturePtr largest_like(const Resolved& resolved);

}  // namespace neurogen
