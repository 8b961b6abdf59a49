// Finds the schedule and plan that fit a budget, or lists settings that would fit.
#pragma once
#include <string>
#include <vector>

#include "arena/error.h"
#include "arena/plan.h"
#include "engine/model/model.h"

namespace neurogen {

struct Budget {
  Bytes bytes = 0;     // all memory held on the device, and the pinned arena
  Bytes overhead = 0;  // allowance for what no plan can place: driver context, libraries, code, C++ heap
  Snapshot snapshot = Snapshot::none;
  bool overlay = true;  // false gives every buffer bytes of its own (for debugging)
};

// A model and the plan of its graph.
struct Fit {
  Model model;        // with the options as requested and the chosen schedule
  Plan plan;          // of that schedule; the leanest one if none fits
  Bytes minimum = 0;  // the smallest budget with which these options run
  bool fits() const { return plan.fits(); }
};

// Plans a model as it is built: its schedule, or none.
Fit planned(Model model, Budget budget);

// Schedules from the fastest to the leanest. Only keeping logits changes bits of the results, and only with 16-bit types.
std::vector<Schedule> schedules(const Architecture& architecture, const StepOptions& options);

// Chooses the first schedule that fits.
Fit fit_training(const ArchitecturePtr& architecture, StepOptions options, Budget budget);

// The largest batch in [1, most] that fits, 0 if none does.
std::int64_t largest_batch(const ArchitecturePtr& architecture, StepOptions options, Budget budget, std::int64_t most);

// The plan of a graph.
Plan plan_graph(const Graph& graph, Budget budget);

std::string describe(const Schedule& schedule, std::int64_t blocks);  // "2 sections", or "3 of 12 blocks computed twice"
std::string describe_logits(const Architecture& architecture, const StepOptions& options);  // "kept", "computed twice", "in parts"
// "full, 32 x 256 = 8,192 tokens a step, f32, decoder f32, 2 sections, logits kept"; with micro-batches "full, 4 x 8 x 256 = ..."
std::string describe(const Architecture& architecture, const StepOptions& options);

// "full, 32 x 256 = ... does not fit into 1,000,000 bytes"
std::string misfit(const Fit& fit);

// A page for settings that do not fit: budget, needed, missing, buffers alive at the peak, and settings that would fit, each with
// its largest batch.
std::string refusal(const Fit& fit, Budget budget, Spelling spelling);

}  // namespace neurogen
