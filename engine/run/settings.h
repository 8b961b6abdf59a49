// Resolves settings from the command line or the library into what can be built.
#pragma once
#include <optional>
#include <string>

#include "arena/report.h"
#include "engine/run/fit.h"
#include "engine/run/session.h"
#include "neurogen/settings.h"

namespace neurogen {

// The GPU to plan for. Defaults, for planning without a GPU: bf16 and a small context.
struct Gpu {
  bool bf16 = true;
  int multiprocessors = 0;
  bool linked = false;  // to those of the other ranks (Place::linked)
};

inline constexpr std::int64_t kMostBatch = 1 << 20, kMostGpu = 1 << 16;

struct Settings : ModelSettings {
  // From a file of weights: defaults for what is automatic above, if this device supports them.
  std::string architecture_json;
  std::optional<DType> saved_compute, saved_decoder;
  std::int64_t saved_document_end = -1;
  std::optional<Optimizer> saved_optimizer;
  std::optional<bool> saved_int8_logits;
  bool saved_narrow_weights = false, saved_narrow_moments = false, saved_early_updates = false;
  std::int64_t lora = 0;             // rank of the adapters that alone are trained, beside frozen weights; 0: all are trained
  std::optional<double> lora_alpha;  // not set: twice the rank
  std::string lora_targets;          // short names of the matrices that have one, "q,v"; empty: all
  bool snapshot = false;             // save checkpoints from a snapshot
  bool separate_buffers = false;     // Place::separate, and no overlay
  // Several processes that train together: how many, which of them this is, of all and on its host; and whether each may be shown a
  // GPU of its own, as its only one.
  std::int64_t ranks = 1;
  int rank = 0, local_rank = 0;
  bool own_gpu = false;
  std::optional<Gpu> card;  // a GPU to plan for instead of this machine's
};

struct Resolved {
  ArchitecturePtr architecture;
  StepOptions options;  // batch as requested, or the recipe's if automatic
  bool automatic_batch = false;
  Place place;
  Budget budget;
};

// Throws Error for invalid settings. `planning`: nothing will run, so the device need not be present.
Resolved resolve(const Settings& settings, bool planning);

// The fit of these settings; an automatic batch is the largest that fits, up to the recipe's.
Fit fit(const Resolved& resolved);

// Facts about these settings for a report, besides the plan.
ReportFacts facts_of(const Resolved& resolved, const Fit& fit);

const char* name_of(Optimizer optimizer);  // "muon"

}  // namespace neurogen
