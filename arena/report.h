// Reports of a plan: a table, a JSON object, a picture.
#pragma once
#include <string>

#include "arena/plan.h"

namespace neurogen {

// Facts that the plan itself does not hold.
struct ReportFacts {
  std::string title;  // "full, 32 x 256 tokens a step, CUDA bf16"
  std::int64_t tokens_per_step = 0;
  Bytes minimum_budget = 0;  // the smallest budget that runs these settings
  Bytes heap_cap = 0;        // the most that the C++ heap may take of the overhead
  Bytes nccl = 0;            // likewise NCCL, with several GPUs
};

// Family of a buffer or operation: names that differ only in digits. "tile12.update" -> "tile#.update".
std::string family_of(const std::string& name);

// A table of bytes by kind and buffer family, largest first, then totals, budget, bytes left, and the planner's lower bound and
// winning order.
std::string plan_table(const Plan& plan, const ReportFacts& facts);

// The same without the families: at most one screen.
std::string plan_summary(const Plan& plan, const ReportFacts& facts);

// One JSON object with exactly these fields: budget_bytes, device_arena_bytes, host_arena_bytes, overhead_bytes, total_bytes,
// lower_bound_bytes, minimum_budget_bytes, fits, tokens_per_step, nccl_bytes with several GPUs, snapshot: {bytes, in_budget} if
// there is one, buffers: [{name, dtype, shape, bytes, arena, kind, first_op, last_op, offset}].
std::string plan_json(const Plan& plan, const ReportFacts& facts);

// The device arena as a memory map: operations from left to right, addresses upwards, every buffer a named rectangle coloured by
// kind, with the peak, the lower bound and the sizes. Self-contained SVG, readable in light and dark mode.
std::string plan_svg(const Plan& plan, const ReportFacts& facts);

// First half of the refusal page: budget, needed, missing, and the buffers alive at the peak, largest first.
std::string refusal_table(const Plan& plan);

}  // namespace neurogen
