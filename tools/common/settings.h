// Options that the programs share: which brain, how large a step, on what, inside which budget.
#pragma once
#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "arena/report.h"
#include "engine/run/fit.h"
#include "engine/run/session.h"

namespace neurogen {

// What is planned for where no GPU is at hand to ask: bf16 and a small context.
struct Gpu {
  bool bf16 = true;
  int multiprocessors = 0;
};

// As typed; resolve() turns it into something that can be built. All texts, so that a wrong one is refused in our words.
struct Settings {
  std::string architecture = "auto", budget = "3200M", overhead = "auto";
  std::string batch = "32", device = "auto", compute = "auto", decoder_storage = "auto";
  // Of a file of weights, for what is automatic above, where this device can do as that did.
  std::string architecture_json;
  std::optional<DType> saved_compute, saved_decoder;
  std::optional<Gpu> card;  // to plan for, where it is not the one that is here
  std::int64_t window = 256, threads = 0, document_end = -1, decoder_tile = 1280;
};

// Adds --arch, --budget, --batch, --seq, --device, --compute, --decoder-storage, --decoder-tile, --threads, --document-end,
// --overhead. `step` false leaves out what only a training step has.
void add_settings(CLI::App& app, Settings& settings, bool step = true);

struct Resolved {
  Architecture architecture;
  BrainOptions options;  // batch as asked, or the recipe's where it is automatic
  bool automatic_batch = false;
  Place place;
  Budget budget;
};

// Throws Error for whatever is wrong. `planning`: nothing will run, so a device that is not here may be planned for.
Resolved resolve(const Settings& settings, bool planning);

// The fit of these settings, with the largest batch up to the recipe's that fits where it is automatic.
Fit fit(const Resolved& resolved);

// What a report says about these settings beside the plan.
ReportFacts facts_of(const Resolved& resolved, const Fit& fit);

// A refused plan: the page on standard error. Returns the exit status.
int refuse(const std::string& program, const Resolved& resolved, const Fit& fit);

}  // namespace neurogen
