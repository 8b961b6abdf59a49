#include "arena/arena.h"

#include <fmt/format.h>

#include "arena/error.h"

namespace neurogen {

Arena::Arena(Plan plan, [[maybe_unused]] bool on_gpu) : plan_(std::move(plan)) {
  if (!plan_.fits()) {
    throw Error(fmt::format("the plan needs {} bytes and the budget is {}: raise the budget or plan for less",
                            with_commas(plan_.total()), with_commas(plan_.budget)));
  }
#ifdef NEUROGEN_CUDA
  const auto take_device = on_gpu ? Block::on_gpu : Block::on_host, take_host = on_gpu ? Block::pinned : Block::on_host;
#else
  const auto take_device = Block::on_host, take_host = Block::on_host;
#endif
  device_ = take_device(plan_.device.bytes);
  host_ = take_host(plan_.host.bytes);
  views_.reserve(plan_.buffers.size());
  for (const Buffer& buffer : plan_.buffers) {
    views_.push_back(make_view(data(buffer.arena) + buffer.offset, buffer.dtype, buffer.shape));
  }
}

}  // namespace neurogen
