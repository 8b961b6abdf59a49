// The plan: turns a list of buffers with lifetimes into offsets in two arenas under one budget. A pure function of its arguments:
// it touches no device, allocates nothing for the run, and equal arguments give equal bytes on every machine.
#pragma once
#include <string>
#include <vector>

#include "arena/bytes.h"
#include "arena/tensor_view.h"

namespace neurogen {

enum class ArenaKind : std::uint8_t { device, host };  // host: pinned on a machine with a GPU
enum class BufferKind : std::uint8_t {
  persistent,  // always alive, saved: parameters and optimizer state
  derived,     // always alive, recomputed from the persistent ones: 16-bit copies, control block, workspaces
  transient,   // alive from first_op to last_op; shares memory with buffers that are not alive then
  loaded,      // always alive, filled from a named file and never changed, so not saved: frozen weights
};

// A copy of the persistent buffers in ordinary memory, saved from while training goes on.
enum class Snapshot : std::uint8_t {
  none,
  in_budget,      // CPU: its arenas are ordinary memory
  beside_budget,  // GPU
};

const char* name_of(ArenaKind kind);
const char* name_of(BufferKind kind);

struct Buffer {
  std::string name;
  DType dtype = DType::f32;
  Shape shape{};
  ArenaKind arena = ArenaKind::device;
  BufferKind kind = BufferKind::transient;
  // First and last operation (indices into Plan::operations) at which the buffer is alive, both inclusive. Persistent and derived
  // buffers: 0 and operations - 1.
  std::int64_t first_op = 0, last_op = 0;
  // Filled by the planner.
  Bytes bytes = 0;   // exact size, before rounding to kAlignment
  Bytes offset = 0;  // from the start of its arena, a multiple of kAlignment
};

// One arena's part of the plan.
struct ArenaPlan {
  Bytes bytes = 0;           // whole size, a multiple of kAlignment
  Bytes persistent = 0;      // [0, persistent) holds the persistent buffers, in declared order
  Bytes derived = 0;         // size of the derived buffers, which follow
  Bytes loaded = 0;          // of the loaded ones, which follow those
  Bytes lower_bound = 0;     // the largest sum of rounded sizes alive at one operation: no placement can be smaller
  std::int64_t peak_op = 0;  // the operation with that sum
  std::string order;         // the winning placement order, e.g. "size", "shuffle 7"
};

struct PlanRequest {
  std::vector<Buffer> buffers{};
  std::vector<std::string> operations{};  // names, in execution order
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
  // Buffers of one arena that are alive at an operation, largest first (indices into `buffers`).
  std::vector<std::size_t> alive(ArenaKind arena, std::int64_t operation) const;
};

// Places persistent buffers first, then derived and loaded ones, each in declared order, then transients overlaid by lifetime
// (placement.h). Throws Error on overflow or on a lifetime outside the operations. A plan that exceeds the budget is returned too:
// ask fits().
Plan make_plan(PlanRequest request);

// Plan::lower_bound() of a request, without placing anything: a quick test that something cannot fit.
Bytes lower_bound_of(const PlanRequest& request);

}  // namespace neurogen
