#include "tools/common/scale.h"

#include <fmt/format.h>

#include "arena/error.h"

namespace neurogen {

ArchitecturePtr largest_like(const Resolved& r) {
  constexpr std::int64_t kLargestStep = 1024;
  std::int64_t step = 1;  // of the units in which widths are valid
  while (!r.architecture->in_proportion(step)) {
    if ((step *= 2) > kLargestStep)
      throw Error(fmt::format("{} has no smaller model of its proportions: choose another --arch", r.architecture->name()));
  }
  const auto fits = [&](std::int64_t steps) {
    Resolved other = r;
    other.architecture = r.architecture->in_proportion(steps * step);
    return other.architecture && fit(other).fits();
  };
  std::int64_t low = 0, high = 1;  // `low` fits or is 0; `high` does not fit
  while (fits(high)) low = high, high *= 2;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  if (low == 0) {
    throw Error(fmt::format("no model of the proportions of {} fits into {} bytes: use a smaller --batch or a larger --budget",
                            r.architecture->name(), with_commas(r.budget.bytes)));
  }
  return r.architecture->in_proportion(low * step);
}

}  // namespace neurogen
