#include "engine/run/fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "arena/report.h"
#include "engine/model/family.h"
#include "engine/model/head.h"
#include "engine/run/leaner.h"

namespace neurogen {
namespace {

constexpr std::int64_t kMostSequences = 1 << 16;
constexpr std::int64_t kMostSections = 32;      // more would save little: the modules' outputs remain
constexpr std::int64_t kMostParts = 12;         // in which a model's blocks are computed twice: each is a plan to make
constexpr Bytes kCpuTile = 8'000'000;           // fits in a core's share of the last-level cache
constexpr Bytes kLeanCpuOverhead = 20'000'000;  // measured: 7 to 12 MB; a run that needs more reports how much
constexpr Bytes kCudaTile = 128'000'000;        // fills a large GPU

PlanRequest request_of(const Graph& graph, Budget budget) {
  PlanRequest request = graph.plan_request();
  request.budget = budget.bytes;
  request.overhead = budget.overhead;
  request.snapshot = budget.snapshot;
  request.overlay = budget.overlay;
  return request;
}

PlanRequest request_of(const Model& model, Budget budget) {
  budget.overhead = add(budget.overhead, model.options.target.nccl);
  return request_of(model.graph, budget);
}

// Finds a plan that fits, trying the leanest schedules first: they are the likeliest to fit.
std::optional<Plan> any_fit(const ArchitecturePtr& architecture, StepOptions options, Budget budget) {
  const std::vector<Schedule> list = schedules(*architecture, options);
  for (auto schedule = list.rbegin(); schedule != list.rend(); ++schedule) {
    options.schedule = *schedule;
    PlanRequest request = request_of(build_training(architecture, options), budget);
    if (lower_bound_of(request) > budget.bytes) continue;  // quicker than placing everything
    Plan plan = make_plan(std::move(request));
    if (plan.fits()) return plan;
  }
  return std::nullopt;
}

// The largest batch in [1, most] for which `fit` holds, 0 if there is none; searches outwards from a guess.
template <typename Holds>
std::int64_t largest(std::int64_t guess, std::int64_t most, Holds&& fit) {
  std::int64_t low = 0, high = most + 1;  // `low` fits (or is 0), `high` does not (or is most + 1)
  std::int64_t probe = std::clamp<std::int64_t>(guess, 1, most);
  for (std::int64_t reach = 1; high - low > 1; reach *= 2) {
    if (fit(probe)) {
      low = probe;
      probe = high > most ? low + reach : low + (high - low) / 2;
    } else {
      high = probe;
      probe = low == 0 ? high - reach : low + (high - low) / 2;
    }
    probe = std::clamp(probe, low + 1, std::max(low + 1, high - 1));
  }
  return low;
}

}  // namespace

Plan plan_graph(const Graph& graph, Budget budget) { return make_plan(request_of(graph, budget)); }

Fit planned(Model model, Budget budget) {
  Plan plan = make_plan(request_of(model, budget));
  const Bytes minimum = plan.total();
  return {std::move(model), std::move(plan), minimum};
}

std::vector<Schedule> schedules(const Architecture& architecture, const StepOptions& options) {
  const Bytes tile = options.target.gpu ? kCudaTile : kCpuTile;
  std::vector<Schedule> list;
  const bool kept_or_not = !gathers_decoder(architecture, options);  // otherwise no schedule keeps logits or computes them twice
  const std::vector<bool> keeps = kept_or_not ? std::vector{true, false} : std::vector{true};
  if (const std::int64_t blocks = architecture.blocks(); blocks > 0) {
    const std::int64_t head = architecture.vocabulary() * architecture.features(), block = (architecture.weights() - head) / blocks;
    const std::int64_t some = (blocks + kMostParts - 1) / kMostParts;
    for (const bool keep : keeps)
      for (std::int64_t twice = 0; twice < blocks + some; twice += some)
        list.push_back({.keep_logits = keep, .tile_bytes = tile, .computed_twice = std::min(twice, blocks)});
    const auto again = [&](const Schedule& s) { return s.computed_twice * block + (s.keep_logits ? 0 : head); };
    std::stable_sort(list.begin(), list.end(), [&](const Schedule& a, const Schedule& b) { return again(a) < again(b); });
    return list;
  }
  for (const bool keep : keeps) {
    for (std::int64_t sections = 1; sections <= std::min(options.batch, kMostSections); sections *= 2)
      list.push_back({.keep_logits = keep, .sections = sections, .tile_bytes = tile});
  }
  list.push_back({.keep_logits = !kept_or_not, .sections = kMostSections, .tile_bytes = tile / 8});
  return list;
}

Fit fit_training(const ArchitecturePtr& architecture, StepOptions options, Budget budget) {
  std::optional<Fit> chosen, leanest;
  Bytes minimum = UINT64_MAX;
  for (const Schedule& schedule : schedules(*architecture, options)) {
    options.schedule = schedule;
    Fit fit = planned(build_training(architecture, options), budget);
    const bool first = !chosen && fit.fits(), least = fit.minimum < minimum;
    minimum = std::min(minimum, fit.minimum);
    if (first) chosen = std::move(fit);
    else if (least) leanest = std::move(fit);
  }
  Fit fit = std::move(chosen ? *chosen : *leanest);
  fit.minimum = minimum;
  return fit;
}

std::int64_t largest_batch(const ArchitecturePtr& architecture, StepOptions options, Budget budget, std::int64_t most) {
  // Placing thousands of buffers is slow; the lower bound from lifetimes is fast and close.
  const std::int64_t guess = largest(1, most, [&](std::int64_t batch) {
    options.batch = batch;
    options.schedule = schedules(*architecture, options).back();
    return lower_bound_of(request_of(build_training(architecture, options), budget)) <= budget.bytes;
  });
  return largest(guess, most, [&](std::int64_t batch) {
    options.batch = batch;
    return any_fit(architecture, options, budget).has_value();
  });
}

std::string describe(const Schedule& schedule, std::int64_t blocks) {
  const std::int64_t sections = schedule.sections;
  return blocks > 0 ? fmt::format("{} of {} blocks computed twice", schedule.computed_twice, blocks)
                    : fmt::format("{} section{}", sections, sections == 1 ? "" : "s");
}

std::string describe_logits(const Architecture& architecture, const StepOptions& options) {
  return gathers_decoder(architecture, options) ? "in parts"
         : !options.schedule.keep_logits        ? "computed twice"
         : options.int8_logits                  ? "kept, by products in int8"
                                                : "kept";
}

std::string describe(const Architecture& architecture, const StepOptions& o) {
  const std::string ranks = o.ranks > 1 ? fmt::format("{} ranks x ", o.ranks) : "",
                    batches = ranks + (o.accumulate > 1 ? fmt::format("{} x ", o.accumulate) : "");
  const std::string lora = o.lora.rank > 0 ? fmt::format(", adapters of rank {}", o.lora.rank) : "";
  const std::string lean = fmt::format("{}{}{}{}", lora, o.narrow_weights ? fmt::format(", weights {}", name_of(o.narrow())) : "",
                                       o.narrow_moments ? ", moments of 8 bits" : "", o.early_updates ? ", early updates" : "");
  return fmt::format("{}, {}{} x {} = {} tokens a step, {}, decoder {}{}, {}, logits {}", architecture.name(), batches, o.batch,
                     o.window, with_commas(static_cast<Bytes>(o.step_tokens())), name_of(o.compute), name_of(o.decoder_storage),
                     lean, describe(o.schedule, architecture.blocks()), describe_logits(architecture, o));
}

std::string misfit(const Fit& fit) {
  return fmt::format("{} does not fit into {} bytes", describe(*fit.model.architecture, fit.model.options),
                     with_commas(fit.plan.budget));
}

std::string refusal(const Fit& fit, Budget budget, Spelling spelling) {
  std::string page = misfit(fit) + ": change one of the settings below\n\n" + refusal_table(fit.plan);
  page += "\nsettings that would fit, each with its largest batch:\n";
  bool any = false;
  const auto set = [&](const char* field, const auto& value) { return fmt::format(" {} {}", spelling(field), value); };
  const auto suggest = [&](const ArchitecturePtr& a, const StepOptions& options, Budget with, const std::string& settings) {
    const std::int64_t batch = largest_batch(a, options, with, kMostSequences);
    if (batch == 0) return;
    const std::string overhead = with.overhead == budget.overhead ? "" : set("overhead", with.overhead);
    page += " " + settings + overhead + set("batch", batch) + "\n";
    any = true;
  };
  const auto smaller_settings = [&](Budget with) {
    const std::int64_t asked = fit.model.options.window;
    for (std::int64_t window = asked; window == asked || (window >= 32 && window * 8 >= asked); window /= 2) {
      StepOptions options = fit.model.options;
      options.window = window;
      suggest(fit.model.architecture, options, with, set("window", window));
    }
    for (const ArchitecturePtr& smaller : smaller_presets(*fit.model.architecture))
      suggest(smaller, fit.model.options, with, set("architecture", smaller->name()) + set("window", asked));
  };
  // As few leaner ways of storage as these settings need to fit, or all.
  StepOptions stored = fit.model.options;
  std::string storage;
  const std::vector<Leaner> ways = leaner(stored);
  for (std::size_t i = 0; i < ways.size(); ++i) {
    ways[i].apply(stored);
    storage += set(ways[i].field, ways[i].value);
    if (i + 1 < ways.size() && !any_fit(fit.model.architecture, stored, budget)) continue;
    suggest(fit.model.architecture, stored, budget, storage);
    break;
  }
  smaller_settings(budget);
  Budget lean = budget;
  lean.overhead = kLeanCpuOverhead;
  const bool cpu = !fit.model.options.target.gpu;
  if (!any && cpu && lean.overhead < budget.overhead) smaller_settings(lean);
  if (!any) page += "  nothing smaller: this budget holds none of the presets\n";
  page += " " + set("budget", fit.minimum) + "  (the minimum for these settings)\n";
  return page;
}

}  // namespace neurogen
