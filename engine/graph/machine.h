// Internal to engine/graph: the device interface of a program.
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
  // Runs a range of operations (a whole program in the fastest way) to completion. Returns the device's time in milliseconds.
  virtual double run(const Graph& graph, Graph::Range range, const Bindings& at) = 0;
  // Captures a part of a program on a GPU, for run.
  virtual void prepare(const Graph& graph, Graph::Range range, const Bindings& at) = 0;
  // The same for the range passed to prepare_times, with each operation's milliseconds.
  virtual void prepare_times(const Graph& graph, Graph::Range range, const Bindings& at) = 0;
  virtual double run_timed(const Graph& graph, Graph::Range range, const Bindings& at, std::span<double> milliseconds) = 0;
  virtual void copy(const void* from, void* to, Bytes bytes) = 0;  // complete after the next wait()
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
