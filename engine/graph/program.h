// A graph bound to an arena: the thing that runs.
#pragma once
#include "arena/arena.h"
#include "engine/graph/graph.h"

namespace neurogen {

class Program {
 public:
  // All three must outlive the program. The arena's plan must be that of the graph's request.
  Program(const Graph& graph, const Arena& arena, CpuDevice& device);

  // Runs every operation of a range in order. Allocates nothing.
  void run(Graph::Range range);

  TensorView view(TensorId id) const { return bindings_[id]; }
  const Arena& arena() const { return arena_; }
  CpuDevice& device() const { return device_; }

  // For debugging: fills every transient with NaN bytes (0xFF) at the end of its lifetime, and all of them before the first
  // run, so that an operation which reads what it may not read cannot go unseen.
  void set_poison(bool on);

 private:
  void poison_after(std::size_t operation);

  const Graph& graph_;
  const Arena& arena_;
  CpuDevice& device_;
  Bindings bindings_;
  bool poison_ = false;
};

}  // namespace neurogen
