#include "engine/run/fit.h"

#include <fmt/format.h>

#include <algorithm>

#include "arena/report.h"

namespace neurogen {
namespace {

constexpr std::int64_t kMostSequences = 1 << 16;
constexpr Bytes kCpuTile = 8'000'000;     // stays in a core's share of the last-level cache while it is worked on
constexpr Bytes kCudaTile = 128'000'000;  // fills a large GPU
constexpr Bytes kLeanCudaTile = 16'000'000;  // smaller ones would make a captured step of a hundred thousand launches

Plan plan_with(const Architecture& architecture, const BrainOptions& options, Budget budget, bool overlay) {
  return plan_graph(build_training(architecture, options).graph, budget, overlay);
}

bool fits(const Architecture& architecture, BrainOptions options, Budget budget) {
  // The leanest schedules come last and are the likeliest to fit, so they are tried first.
  std::vector<Schedule> list = schedules(options);
  return std::any_of(list.rbegin(), list.rend(), [&](const Schedule& schedule) {
    options.schedule = schedule;
    return plan_with(architecture, options, budget, true).fits();
  });
}

}  // namespace

Plan plan_graph(const Graph& graph, Budget budget, bool overlay) {
  PlanRequest request = graph.plan_request();
  request.budget = budget.bytes;
  request.overhead = budget.overhead;
  request.overlay = overlay;
  return make_plan(std::move(request));
}

std::vector<Schedule> schedules(const BrainOptions& options) {
  const Bytes tile = options.threads == 0 ? kCudaTile : kCpuTile;
  std::vector<Schedule> list;
  for (bool keep : {true, false}) {
    for (std::int64_t sections = 1; sections < 2 * options.batch; sections *= 2) {
      list.push_back({keep, std::min(sections, options.batch), tile});
    }
  }
  list.push_back({false, options.batch, options.threads == 0 ? kLeanCudaTile : 0});
  return list;
}

Fit fit_training(const Architecture& architecture, BrainOptions options, Budget budget, bool overlay) {
  Fit chosen, leanest;
  Bytes minimum = UINT64_MAX;
  bool found = false;
  for (const Schedule& schedule : schedules(options)) {
    options.schedule = schedule;
    Plan plan = plan_with(architecture, options, budget, overlay);
    const Bytes total = plan.total();
    if (total < minimum) {
      minimum = total;
      leanest = {options, plan, 0};
    }
    if (!found && plan.fits()) {
      found = true;
      chosen = {options, std::move(plan), 0};
    }
  }
  Fit& fit = found ? chosen : leanest;
  fit.minimum = minimum;
  return fit;
}

std::int64_t largest_batch(const Architecture& architecture, BrainOptions options, Budget budget, std::int64_t most) {
  const auto fit = [&](std::int64_t batch) {
    options.batch = batch;
    return fits(architecture, options, budget);
  };
  // Invariant: `low` fits (or is 0), `high` does not (or is most + 1).
  std::int64_t low = 0, high = 1;
  while (high <= most && fit(high)) {
    low = high;
    high *= 2;
  }
  high = std::min(high, most + 1);
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (fit(middle) ? low : high) = middle;
  }
  return low;
}

std::string describe(const Architecture& architecture, const BrainOptions& o) {
  return fmt::format("{}, {} x {} = {} tokens a step, {}, decoder {}, {} section{}, logits {}", architecture.name, o.batch,
                     o.window, with_commas(static_cast<Bytes>(o.tokens())), name_of(o.compute), name_of(o.decoder_storage),
                     o.schedule.sections, o.schedule.sections == 1 ? "" : "s",
                     o.schedule.keep_logits ? "kept" : "computed twice");
}

std::string refusal(const Architecture& architecture, const Fit& fit, Budget budget) {
  std::string page = refusal_table(fit.plan);
  page += "\nwhat would fit (each with the largest batch that does):\n";
  bool any = false;
  const auto suggest = [&](const Architecture& a, BrainOptions options, const std::string& flags) {
    const std::int64_t batch = largest_batch(a, options, budget, kMostSequences);
    if (batch == 0) return;
    options.batch = batch;
    const Fit with = fit_training(a, options, budget);
    page += fmt::format("  {} --batch {}  ({} bytes)\n", flags, batch, with_commas(with.plan.total()));
    any = true;
  };
  for (std::int64_t window = fit.options.window; window >= 32 && window * 8 >= fit.options.window; window /= 2) {
    BrainOptions options = fit.options;
    options.window = window;
    suggest(architecture, options, fmt::format("--seq {}", window));
  }
  for (const char* smaller : {"small", "tiny"}) {
    const Architecture other = read_architecture(smaller);
    if (other.weights() < architecture.weights()) suggest(other, fit.options, fmt::format("--arch {} --seq {}", smaller, fit.options.window));
  }
  if (!any) page += "  nothing smaller: this budget holds none of the presets\n";
  page += fmt::format("  --budget {}  (the least for the settings asked for)\n", fit.minimum);
  return page;
}

}  // namespace neurogen
