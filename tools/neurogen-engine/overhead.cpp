#include "tools/neurogen-engine/overhead.h"

#include <fmt/format.h>

#include <algorithm>

#include "arena/error.h"

namespace neurogen {

Bytes measured_overhead(const Session& session) {
  const Plan& plan = session.arena.plan();
  const Bytes gpu = session.program.gpu_bytes();
  const Bytes held = gpu > 0 ? gpu : resident_anonymous_bytes();
  // A page mapped from a checkpoint counts as the process's own once it is changed.
  const Block& device = session.arena.block(ArenaKind::device);
  const Bytes arenas =
      gpu > 0 ? plan.device.bytes : plan.total() - plan.overhead - device.mapped() + copied_bytes(device.data(), device.mapped());
  return held > arenas ? held - arenas : 0;
}

Bytes checked_overhead(const Session& session) {
  const Plan& plan = session.arena.plan();
  const Bytes arenas = plan.total() - plan.overhead, overhead = measured_overhead(session);
  if (arenas + overhead > plan.budget) {
    throw Error(fmt::format("memory outside the arenas takes {} bytes, {} were set aside and the budget is {} with {} of {}: pass "
                            "--overhead {} or a larger --budget",
                            with_commas(overhead), with_commas(plan.overhead), with_commas(plan.budget),
                            plan.snapshot == Snapshot::in_budget ? "arenas and a snapshot" : "arenas", with_commas(arenas),
                            overhead - std::min(overhead, session.model.options.target.nccl)),
                Error::kRunTime);
  }
  return overhead;
}

}  // namespace neurogen
