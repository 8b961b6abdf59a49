#include "arena/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "arena/error.h"
#include "arena/placement.h"

namespace neurogen {
namespace {

// Persistent and derived buffers live for the whole run; a transient's lifetime must lie inside the run.
void settle_lifetime(Buffer& buffer, std::int64_t operations) {
  if (buffer.kind != BufferKind::transient) {
    buffer.first_op = 0;
    buffer.last_op = std::max<std::int64_t>(operations - 1, 0);
  } else if (buffer.first_op < 0 || buffer.last_op < buffer.first_op || buffer.last_op >= operations) {
    throw Error(fmt::format("buffer {} lives from operation {} to {}, which is not a span of the {} operations", buffer.name,
                            buffer.first_op, buffer.last_op, operations));
  }
}

// Places all buffers of one kind and arena after `end`, in declared order, and returns where they end.
Bytes bump(std::vector<Buffer>& buffers, ArenaKind arena, BufferKind kind, Bytes end) {
  for (Buffer& buffer : buffers) {
    if (buffer.arena != arena || buffer.kind != kind) continue;
    buffer.offset = end;
    end = add(end, align_up(buffer.bytes));
  }
  return end;
}

ArenaPlan plan_arena(std::vector<Buffer>& buffers, ArenaKind arena, bool overlay) {
  ArenaPlan plan;
  plan.persistent = bump(buffers, arena, BufferKind::persistent, 0);
  const Bytes derived = bump(buffers, arena, BufferKind::derived, plan.persistent);
  const Bytes fixed = bump(buffers, arena, BufferKind::loaded, derived);
  plan.derived = derived - plan.persistent;
  plan.loaded = fixed - derived;

  std::vector<Buffer*> transients;
  std::vector<Interval> intervals;
  for (Buffer& buffer : buffers) {
    if (buffer.arena != arena || buffer.kind != BufferKind::transient) continue;
    transients.push_back(&buffer);
    intervals.push_back({align_up(buffer.bytes), buffer.first_op, buffer.last_op});
  }
  plan.lower_bound = add(fixed, lower_bound(intervals, &plan.peak_op));
  if (!overlay) {
    plan.bytes = bump(buffers, arena, BufferKind::transient, fixed);
    plan.order = "no overlay";
    return plan;
  }
  const Placement placement = place(intervals);
  for (std::size_t i = 0; i < transients.size(); ++i) transients[i]->offset = add(fixed, placement.offsets[i]);
  plan.bytes = add(fixed, placement.height);
  plan.order = placement.order;
  return plan;
}

Bytes beside_arenas(const Plan& plan) {
  return add(plan.overhead, plan.snapshot == Snapshot::in_budget ? plan.snapshot_bytes() : 0);
}

}  // namespace

const char* name_of(ArenaKind kind) { return kind == ArenaKind::device ? "device" : "host"; }

const char* name_of(BufferKind kind) {
  static constexpr const char* kNames[] = {"persistent", "derived", "transient", "loaded"};
  return kNames[static_cast<int>(kind)];
}

Bytes Plan::total() const { return add(add(device.bytes, host.bytes), beside_arenas(*this)); }

Bytes Plan::lower_bound() const { return add(add(device.lower_bound, host.lower_bound), beside_arenas(*this)); }

std::vector<std::size_t> Plan::alive(ArenaKind arena, std::int64_t operation) const {
  std::vector<std::size_t> found;
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const Buffer& buffer = buffers[i];
    if (buffer.arena == arena && buffer.first_op <= operation && operation <= buffer.last_op) found.push_back(i);
  }
  std::stable_sort(found.begin(), found.end(), [&](std::size_t a, std::size_t b) { return buffers[a].bytes > buffers[b].bytes; });
  return found;
}

Bytes lower_bound_of(const PlanRequest& request) {
  Bytes bound = request.overhead;
  for (const ArenaKind arena : {ArenaKind::device, ArenaKind::host}) {
    std::vector<Interval> intervals;
    for (const Buffer& buffer : request.buffers) {
      if (buffer.arena != arena) continue;
      const Bytes size = align_up(size_of(buffer.dtype, buffer.shape));
      if (buffer.kind == BufferKind::transient) intervals.push_back({size, buffer.first_op, buffer.last_op});
      else bound = add(bound, size);
      const bool copied = buffer.kind == BufferKind::persistent && arena == ArenaKind::device;
      if (copied && request.snapshot == Snapshot::in_budget) bound = add(bound, size);
    }
    bound = add(bound, lower_bound(intervals));
  }
  return bound;
}

Plan make_plan(PlanRequest request) {
  Plan plan{.buffers = std::move(request.buffers),
            .operations = std::move(request.operations),
            .device = {},
            .host = {},
            .budget = request.budget,
            .overhead = request.overhead,
            .snapshot = request.snapshot};
  for (Buffer& buffer : plan.buffers) {
    settle_lifetime(buffer, static_cast<std::int64_t>(plan.operations.size()));
    buffer.bytes = size_of(buffer.dtype, buffer.shape);
  }
  plan.device = plan_arena(plan.buffers, ArenaKind::device, request.overlay);
  plan.host = plan_arena(plan.buffers, ArenaKind::host, request.overlay);
  plan.total();  // throws here if the sum does not fit 64 bits, rather than on first use
  return plan;
}

}  // namespace neurogen
