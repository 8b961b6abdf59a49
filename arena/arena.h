// A sealed plan over its blocks: the only place where a buffer's index becomes an address.
#pragma once
#include <span>

#include "arena/block.h"
#include "arena/plan.h"

namespace neurogen {

class Arena {
 public:
  // Takes both blocks' memory for a plan that fits, zeroed; the device arena begins with `front`. Throws Error (status 2) if it
  // does not fit, (status 1) if the system has no such memory.
  explicit Arena(Plan plan, const FileRange& front = {});
  // The device arena on the current GPU, the host arena pinned; in builds with CUDA alone. `separate`, for debugging: every buffer
  // of the device arena has a block of its own, of its exact size, cleared where it is not transient, so that compute-sanitizer
  // sees what leaves its buffer and what is read before it was written. Nothing is one image then: the plan's offsets there mean
  // nothing, and block(ArenaKind::device) is empty.
  static Arena on_gpu(Plan plan, bool separate = false);

  const Plan& plan() const { return plan_; }
  // Index into plan().buffers. Valid as long as the arena.
  TensorView view(std::size_t buffer) const { return views_[buffer]; }
  std::byte* data(ArenaKind kind) const { return block(kind).data(); }
  const Block& block(ArenaKind kind) const { return kind == ArenaKind::device ? device_ : host_; }

 private:
  Arena() = default;
  void bind();

  Plan plan_;
  Block device_, host_;
  std::vector<Block> separate_;  // by buffer, where the device arena is not one block
  std::vector<TensorView> views_;
};

}  // namespace neurogen
