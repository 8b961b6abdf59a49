// A sealed plan and its memory blocks: the only place where a buffer index becomes an address.
#pragma once
#include <span>

#include "arena/block.h"
#include "arena/plan.h"

namespace neurogen {

class Arena {
 public:
  // Allocates both blocks, zeroed, for a plan that fits; the device arena begins with `front`. Throws Error (status 2) if the plan
  // does not fit, (status 1) if the system lacks the memory.
  explicit Arena(Plan plan, const FileRange& front = {});
  // Device arena on the current GPU, host arena pinned; only in builds with CUDA. `separate` is for debugging: every buffer of the
  // device arena gets its own block of its exact size, cleared unless transient, so that compute-sanitizer sees accesses outside a
  // buffer and reads before writes. The plan's device offsets are then meaningless, and block(ArenaKind::device) is empty.
  static Arena on_gpu(Plan plan, bool separate = false);

  const Plan& plan() const { return plan_; }
  // Indexed as plan().buffers. Valid as long as the arena.
  TensorView view(std::size_t buffer) const { return views_[buffer]; }
  std::byte* data(ArenaKind kind) const { return block(kind).data(); }
  const Block& block(ArenaKind kind) const { return kind == ArenaKind::device ? device_ : host_; }

 private:
  Arena() = default;
  void bind();

  Plan plan_;
  Block device_, host_;
  std::vector<Block> separate_;  // by buffer, if the device arena is not one block
  std::vector<TensorView> views_;
};

}  // namespace neurogen
