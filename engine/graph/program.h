// A graph bound to an arena: the thing that runs, on a CPU or a GPU.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "arena/arena.h"
#include "engine/graph/graph.h"

namespace neurogen {

struct Machine;  // machine.h

class Program {
 public:
  // All three must outlive the program. The arena's plan must be that of the graph's request.
  Program(const Graph& graph, const Arena& arena, CpuDevice& device);
  // Every program of the graph is run once on the new arena, so that all code is there, then captured to be launched as one;
  // then all that is not transient is zero again. First values come afterwards.
  Program(const Graph& graph, const Arena& arena, CudaDevice& device);
  ~Program();

  // Runs every operation of a range in order (on a GPU, a whole program as one) and waits for the last. Allocates
  // nothing.
  void run(Graph::Range range);
  // The next run, which is of the range that was prepared for it, fills in how many milliseconds each of its operations took, which
  // costs a little time and changes no bit. prepare_times once, before anything is sealed; as many milliseconds as the range has
  // operations.
  void prepare_times(Graph::Range range);
  void time_next_run(std::span<double> milliseconds) { times_ = milliseconds; }

  // On a GPU, the address of a tensor in the device arena means nothing to the host: see read and write.
  TensorView view(TensorId id) const { return bindings_[id]; }
  const Arena& arena() const { return arena_; }

  // Between steps, at start-up or at the end: bytes of a tensor from `begin` on, from and to the host's memory, and all of
  // them to zero.
  void write(TensorId id, const void* from, Bytes bytes, Bytes begin = 0);
  void read(TensorId id, void* to, Bytes bytes, Bytes begin = 0) const;
  // The same between any addresses of the arena and of the host, whose work goes on meanwhile: done when wait() returns.
  void copy(const void* from, void* to, Bytes bytes) const;
  void wait() const;
  // Whether all is done that was asked for before a mark was set. On a GPU the marks are its own (CudaDevice::reserve_marks), which
  // nothing else may set meanwhile.
  void mark(std::size_t number) const;
  bool has_reached(std::size_t number) const;
  void clear(TensorId id);

  // "cpu, 2 threads", "NVIDIA H200"
  std::string device_name() const;
  double milliseconds() const { return milliseconds_; }  // that the device worked on the latest run
  std::int64_t synchronizations() const;                 // how often the host has waited for a GPU so far
  Bytes gpu_bytes() const;                               // that the process holds on the GPU; 0 on a CPU

  // For debugging: fills every transient with NaN bytes (0xFF) at the end of its lifetime, and all of them before the first
  // run, so that an operation which reads what it may not read cannot go unseen.
  void set_poison(bool on);

 private:
  void fill(TensorId id, int byte);

  const Graph& graph_;
  const Arena& arena_;
  Bindings bindings_;
  std::unique_ptr<Machine> machine_;
  bool poison_ = false;
  double milliseconds_ = 0;
  std::span<double> times_;
};

}  // namespace neurogen
