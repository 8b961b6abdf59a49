// Inside engine/graph only: what a program needs of the device that it runs on.
#pragma once
#include <memory>
#include <span>
#include <string>

#include "arena/arena.h"
#include "engine/graph/graph.h"

namespace neurogen {

struct Machine {
  virtual ~Machine() = default;
  virtual std::string name() const = 0;
  // A range of operations, a whole program in the fastest way; done when it returns. Returns the milliseconds that the device
  // worked.
  virtual double run(const Graph& graph, Graph::Range range, const Bindings& at) = 0;
  // The same with each operation's milliseconds apart, of the range that prepare_times was called with.
  virtual void prepare_times(const Graph& graph, Graph::Range range, const Bindings& at) = 0;
  virtual double run_timed(const Graph& graph, Graph::Range range, const Bindings& at, std::span<double> milliseconds) = 0;
  virtual void copy(const void* from, void* to, Bytes bytes) = 0;  // done at the next wait()
  virtual void wait() = 0;
  virtual void mark(std::size_t number) = 0;
  virtual bool has_reached(std::size_t number) = 0;
  virtual void fill(void* to, int byte, Bytes bytes) = 0;
  virtual std::int64_t synchronizations() const = 0;
  virtual Bytes gpu_bytes() const = 0;
};

std::unique_ptr<Machine> machine_of(CpuDevice& device, const Arena& arena);
std::unique_ptr<Machine> machine_of(CudaDevice& device, const Graph& graph, const Arena& arena, const Bindings& at);

}  // namespace neurogen
