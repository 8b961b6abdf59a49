#include "engine/graph/graph.h"

#include <algorithm>
#include <stdexcept>

namespace neurogen {

TensorId Graph::tensor(std::string name, DType dtype, Shape shape, BufferKind kind, ArenaKind arena) {
  Buffer buffer;
  buffer.name = std::move(name);
  buffer.dtype = dtype;
  buffer.shape = std::move(shape);
  buffer.kind = kind;
  buffer.arena = arena;
  tensors_.push_back(std::move(buffer));
  return {tensors_.size() - 1};
}

double Graph::bytes(TensorId id) const {
  return id ? static_cast<double>(size_of(tensors_[id.index].dtype, tensors_[id.index].shape)) : 0;
}

Operation& Graph::add(std::string name, const std::vector<TensorId>& reads, const std::vector<TensorId>& writes, Cost cost) {
  Operation& operation = operations_.emplace_back();
  operation.name = std::move(name);
  operation.cost = {cost.flops, std::max(cost.bytes, 0.0)};
  const auto list = [&](const std::vector<TensorId>& ids, std::vector<TensorId>& to) {
    for (const TensorId id : ids) {
      if (!id) continue;
      to.push_back(id);
      if (cost.bytes < 0) operation.cost.bytes += bytes(id);
    }
  };
  list(reads, operation.reads);
  list(writes, operation.writes);
  return operation;
}

void Graph::hoist() {
  const Operation& latest = operations_.back();
  const auto reads = [&](TensorId id) {
    return std::any_of(latest.reads.begin(), latest.reads.end(), [&](TensorId other) { return other.index == id.index; });
  };
  std::size_t place = operations_.size() - 1;
  const auto gives = [&](const Operation& before) { return std::any_of(before.writes.begin(), before.writes.end(), reads); };
  while (place > programs_.back() && !gives(operations_[place - 1])) --place;
  std::rotate(operations_.begin() + static_cast<std::ptrdiff_t>(place), operations_.end() - 1, operations_.end());
}

std::size_t Graph::begin_program() { return programs_.emplace_back(operations_.size()); }

std::vector<Graph::Range> Graph::programs() const {
  std::vector<Range> ranges;
  for (std::size_t i = 0; i < programs_.size(); ++i) {
    ranges.push_back({programs_[i], i + 1 < programs_.size() ? programs_[i + 1] : operations_.size()});
  }
  return ranges;
}

PlanRequest Graph::plan_request() const {
  PlanRequest request;
  request.buffers = tensors_;
  const auto last = static_cast<std::int64_t>(operations_.size()) - 1;
  std::vector<bool> touched(tensors_.size(), false);
  for (std::size_t o = 0; o < operations_.size(); ++o) {
    request.operations.push_back(operations_[o].name);
    for (const auto* ids : {&operations_[o].reads, &operations_[o].writes}) {
      for (const TensorId id : *ids) {
        Buffer& buffer = request.buffers[id.index];
        if (!touched[id.index]) buffer.first_op = static_cast<std::int64_t>(o);
        buffer.last_op = static_cast<std::int64_t>(o);
        touched[id.index] = true;
      }
    }
  }
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    Buffer& buffer = request.buffers[i];
    if (buffer.kind != BufferKind::transient) {
      buffer.first_op = 0;
      buffer.last_op = last;
    } else if (!touched[i]) {
      throw std::logic_error("no operation touches " + buffer.name);
    }
  }
  return request;
}

}  // namespace neurogen
