#include "engine/graph/program.h"

#include <cstring>

namespace neurogen {
namespace {

Bindings bind(const Graph& graph, const Arena& arena) {
  std::vector<TensorView> views;
  for (std::size_t i = 0; i < graph.tensors().size(); ++i) views.push_back(arena.view(i));
  return Bindings(std::move(views));
}

}  // namespace

Program::Program(const Graph& graph, const Arena& arena, CpuDevice& device)
    : graph_(graph), arena_(arena), device_(device), bindings_(bind(graph, arena)) {}

void Program::run(Graph::Range range) {
  for (std::size_t o = range.begin; o < range.end; ++o) {
    graph_.operations()[o].on_cpu(device_, bindings_);
    if (poison_) poison_after(o);
  }
}

void Program::set_poison(bool on) {
  poison_ = on;
  if (!on) return;
  for (const Buffer& buffer : arena_.plan().buffers) {
    if (buffer.kind == BufferKind::transient) std::memset(arena_.data(buffer.arena) + buffer.offset, 0xFF, buffer.bytes);
  }
}

void Program::poison_after(std::size_t operation) {
  for (const Buffer& buffer : arena_.plan().buffers) {
    if (buffer.kind == BufferKind::transient && buffer.last_op == static_cast<std::int64_t>(operation)) {
      std::memset(arena_.data(buffer.arena) + buffer.offset, 0xFF, buffer.bytes);
    }
  }
}

}  // namespace neurogen
