#include "tools/common/scale.h"

#include <fmt/format.h>

#include <numeric>
#include <optional>

#include "arena/error.h"

namespace neurogen {
namespace {

// `from` with every width divided by `common`, their greatest common divisor, and multiplied by `unit`; empty if that is invalid.
std::optional<Architecture> scaled(const Architecture& from, std::int64_t common, std::int64_t unit) {
  Architecture to = from;
  to.embedding = from.embedding / common * unit;
  for (std::size_t m = 0; m < kModules; ++m) {
    to.modules[m].outputs = from.modules[m].outputs / common * unit;
    to.modules[m].neurons = to.modules[m].outputs * from.modules[m].roles();
  }
  to.name = fmt::format("{}-{}", from.name, to.neurons());
  try {
    return parse_architecture(to_json(to), to.name);  // also validates it
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

Architecture largest_like(const Resolved& r) {
  std::int64_t common = r.architecture.embedding;
  for (const Module& module : r.architecture.modules) common = std::gcd(common, module.outputs);
  std::int64_t step = 1;
  while (!scaled(r.architecture, common, step)) {
    if ((step *= 2) > 1024)
      throw Error(fmt::format("{} has no smaller brain of its proportions: choose another --arch", r.architecture.name));
  }
  const auto fits = [&](std::int64_t steps) {
    Resolved other = r;
    const auto architecture = scaled(r.architecture, common, steps * step);
    if (!architecture) return false;
    other.architecture = *architecture;
    return fit(other).fits();
  };
  std::int64_t low = 0, high = 1;  // `low` fits or is 0; `high` does not fit
  while (fits(high)) low = high, high *= 2;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  if (low == 0) {
    throw Error(fmt::format("no brain of the proportions of {} fits into {} bytes: use a smaller --batch or a larger --budget",
                            r.architecture.name, with_commas(r.budget.bytes)));
  }
  return *scaled(r.architecture, common, low * step);
}

}  // namespace neurogen
