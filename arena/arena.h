// A sealed plan over its blocks: the only place where a buffer's index becomes an address.
#pragma once
#include <span>

#include "arena/block.h"
#include "arena/plan.h"

namespace neurogen {

class Arena {
 public:
  // Takes both blocks' memory for a plan that fits, zeroed; `on_gpu`: the device arena on the current GPU, the host arena
  // pinned. Without a GPU, the device arena begins with `front`. Throws Error (status 2) if it does not fit, (status 1) if the
  // system has no such memory.
  explicit Arena(Plan plan, bool on_gpu = false, const FileRange& front = {});

  const Plan& plan() const { return plan_; }
  // Index into plan().buffers. Valid as long as the arena.
  TensorView view(std::size_t buffer) const { return views_[buffer]; }
  std::byte* data(ArenaKind kind) const { return block(kind).data(); }
  const Block& block(ArenaKind kind) const { return kind == ArenaKind::device ? device_ : host_; }

 private:
  Plan plan_;
  Block device_, host_;
  std::vector<TensorView> views_;
};

}  // namespace neurogen
