// A plan for people and for programs: a table, one JSON object, a picture.
#pragma once
#include <string>

#include "arena/plan.h"

namespace neurogen {

// What the report cannot know from the plan itself.
struct ReportFacts {
  std::string title;  // "full, 32 x 256 tokens a step, CUDA bf16"
  std::int64_t tokens_per_step = 0;
  Bytes minimum_budget = 0;  // the smallest budget with which these settings run
  Bytes heap_cap = 0;        // the part of the overhead that the C++ heap may take at most
};

// The family of a buffer or operation, those whose names differ only in digits: "tile12.update" -> "tile#.update".
std::string family_of(const std::string& name);

// A table of bytes by class and by buffer family, largest first,
// then totals, budget, what is left, and the planner's lower bound and winning order.
std::string plan_table(const Plan& plan, const ReportFacts& facts);

// The same without the families: a screen at most.
std::string plan_summary(const Plan& plan, const ReportFacts& facts);

// One JSON object with exactly these fields: budget_bytes, device_arena_bytes, host_arena_bytes, overhead_bytes,
// total_bytes, lower_bound_bytes, minimum_budget_bytes, fits, tokens_per_step, snapshot: {bytes, in_budget} where there is one,
// buffers: [{name, dtype, shape, bytes, arena, kind, first_op, last_op, offset}].
std::string plan_json(const Plan& plan, const ReportFacts& facts);

// The device arena as a memory map: operations from left to right, addresses upwards, every buffer a named rectangle,
// coloured by class; the peak marked, the lower bound drawn, sizes in the corner. Self-contained SVG, readable in light
// and dark.
std::string plan_svg(const Plan& plan, const ReportFacts& facts);

// The refusal page's first half: budget, needed, missing, and the buffers alive at the peak, largest first.
std::string refusal_table(const Plan& plan);

}  // namespace neurogen
