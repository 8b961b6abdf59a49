#include "arena/arena.h"

#include <fmt/format.h>

#include "arena/error.h"

namespace neurogen {

Arena::Arena(Plan plan, [[maybe_unused]] bool on_gpu, const FileRange& front) : plan_(std::move(plan)) {
  if (!plan_.fits()) {
    throw Error(fmt::format("the plan needs {} bytes and the budget is {}: raise the budget or plan for less",
                            with_commas(plan_.total()), with_commas(plan_.budget)));
  }
#ifdef NEUROGEN_CUDA
  if (on_gpu) {
    device_ = Block::on_gpu(plan_.device.bytes);
    host_ = Block::pinned(plan_.host.bytes);
  } else
#endif
  {
    device_ = Block::on_host(plan_.device.bytes, front);
    host_ = Block::on_host(plan_.host.bytes);
  }
  views_.reserve(plan_.buffers.size());
  for (const Buffer& buffer : plan_.buffers) {
    views_.push_back(make_view(data(buffer.arena) + buffer.offset, buffer.dtype, buffer.shape));
  }
}

}  // namespace neurogen
