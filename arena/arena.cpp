#include "arena/arena.h"

#include <fmt/format.h>

#include <algorithm>

#include "arena/error.h"

namespace neurogen {
namespace {

void require_fit(const Plan& plan) {
  if (plan.fits()) return;
  throw Error(fmt::format("the plan needs {} bytes and the budget is {}: raise the budget or plan for less",
                          with_commas(plan.total()), with_commas(plan.budget)));
}

}  // namespace

Arena::Arena(Plan plan, const FileRange& front) : plan_(std::move(plan)) {
  require_fit(plan_);
  device_ = Block::on_host(plan_.device.bytes, front);
  host_ = Block::on_host(plan_.host.bytes);
  bind();
}

#ifdef NEUROGEN_CUDA
Arena Arena::on_gpu(Plan plan, bool separate) {
  require_fit(plan);
  Arena arena;
  arena.plan_ = std::move(plan);
  const Plan& planned = arena.plan_;
  arena.host_ = Block::pinned(planned.host.bytes);
  if (!separate) arena.device_ = Block::on_gpu(planned.device.bytes);
  for (std::size_t i = 0; separate && i < planned.buffers.size(); ++i) {
    const Buffer& buffer = planned.buffers[i];
    Block& block = arena.separate_.emplace_back();
    // An empty tensor gets an address too: a null address would mean that the tensor is absent.
    if (buffer.arena == ArenaKind::device)
      block = Block::on_gpu(std::max<Bytes>(buffer.bytes, 1), buffer.kind != BufferKind::transient);
  }
  arena.bind();
  return arena;
}
#endif

void Arena::bind() {
  views_.reserve(plan_.buffers.size());
  for (std::size_t i = 0; i < plan_.buffers.size(); ++i) {
    const Buffer& buffer = plan_.buffers[i];
    const bool separate = buffer.arena == ArenaKind::device && !separate_.empty();
    views_.push_back(make_view(separate ? separate_[i].data() : data(buffer.arena) + buffer.offset, buffer.dtype, buffer.shape));
  }
}

}  // namespace neurogen
