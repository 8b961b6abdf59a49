// The plan: from a list of buffers with lifetimes to offsets in two arenas under one budget. A pure function of its
// arguments: no device is touched, nothing is allocated for the run, and equal arguments give equal bytes on every machine.
#pragma once
#include <string>
#include <vector>

#include "arena/bytes.h"
#include "arena/tensor_view.h"

namespace neurogen {

enum class ArenaKind : std::uint8_t { device, host };  // host: pinned on a GPU machine
enum class BufferKind : std::uint8_t {
  persistent,  // alive always, saved: parameters and optimizer state
  derived,     // alive always, made again from the persistent ones: 16-bit copies, control block, workspaces
  transient,   // alive from first_op to last_op; shares memory with buffers that are not alive then
};

// A copy of the persistent buffers in ordinary memory, from which they are saved while training goes on.
enum class Snapshot : std::uint8_t {
  none,
  in_budget,      // of a CPU, whose memory is ordinary memory
  beside_budget,  // of a GPU
};

const char* name_of(ArenaKind kind);
const char* name_of(BufferKind kind);

struct Buffer {
  std::string name;
  DType dtype = DType::f32;
  Shape shape{};
  ArenaKind arena = ArenaKind::device;
  BufferKind kind = BufferKind::transient;
  // Operations (indices into Plan::operations) at whose start and end the buffer comes to life and dies, both inclusive.
  // Persistent and derived buffers: 0 and operations - 1.
  std::int64_t first_op = 0, last_op = 0;
  // Filled by the planner.
  Bytes bytes = 0;   // exact size, before rounding to kAlignment
  Bytes offset = 0;  // from the start of its arena, a multiple of kAlignment
};

// One arena's part of the plan.
struct ArenaPlan {
  Bytes bytes = 0;           // its whole size, a multiple of kAlignment
  Bytes persistent = 0;      // [0, persistent) holds the persistent buffers, in the order in which they were declared
  Bytes derived = 0;         // behind them, the derived ones
  Bytes lower_bound = 0;     // no placement can be smaller: the largest sum of rounded sizes alive at one operation
  std::int64_t peak_op = 0;  // the operation at which that sum is alive
  std::string order;         // the placing order that won, e.g. "size", "shuffle 7"
};

struct PlanRequest {
  std::vector<Buffer> buffers{};
  std::vector<std::string> operations{};  // names, in the order in which they run
  Bytes budget = 0;
  Bytes overhead = 0;  // allowance for what is not in the arenas: context, libraries, C++ heap
  // false gives every buffer its own bytes for the whole run: for debugging and for proving that sharing changes nothing
  bool overlay = true;
  Snapshot snapshot = Snapshot::none;
};

struct Plan {
  std::vector<Buffer> buffers;  // as requested, offsets and bytes filled in
  std::vector<std::string> operations;
  ArenaPlan device, host;
  Bytes budget = 0, overhead = 0;
  Snapshot snapshot = Snapshot::none;

  Bytes snapshot_bytes() const { return snapshot == Snapshot::none ? 0 : device.persistent; }
  Bytes total() const;        // device arena + host arena + overhead + a snapshot in the budget
  Bytes lower_bound() const;  // the same with both arenas at their lower bounds
  bool fits() const { return total() <= budget; }
  // The buffers of one arena alive at an operation, largest first (indices into `buffers`).
  std::vector<std::size_t> alive(ArenaKind arena, std::int64_t operation) const;
};

// Persistent buffers first, then derived, each in declared order, at bumped offsets; then transients overlaid by lifetime
// (placement.h). Throws Error on overflow or on a lifetime outside the operations. Whether it fits is the caller's question.
Plan make_plan(PlanRequest request);

// Plan::lower_bound() of a request, without placing anything: the quick way to see that something cannot fit.
Bytes lower_bound_of(const PlanRequest& request);

}  // namespace neurogen
