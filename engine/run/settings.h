// From settings as typed to something that can be built.
#pragma once
#include <optional>
#include <string>

#include "arena/report.h"
#include "engine/api/neurogen/settings.h"
#include "engine/run/fit.h"
#include "engine/run/session.h"

namespace neurogen {

// What is planned for where no GPU is at hand to ask: bf16 and a small context.
struct Gpu {
  bool bf16 = true;
  int multiprocessors = 0;
};

struct Settings : BrainSettings {
  // Of a file of weights, for what is automatic above, where this device can do as that did.
  std::string architecture_json;
  std::optional<DType> saved_compute, saved_decoder;
  std::int64_t saved_document_end = -1;
  bool snapshot = false;          // checkpoints are saved from one
  bool separate_buffers = false;  // Place::separate, and no overlay
  std::optional<Gpu> card;        // to plan for, where it is not the one that is here
};

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

}  // namespace neurogen
