// A graph bound to an arena, ready to run on a CPU or a GPU.
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
  // Runs every program of the graph once on the new arena, so that all code is loaded, and captures it for a single launch; then
  // zeroes everything that is not transient. Initial values come afterwards.
  Program(const Graph& graph, const Arena& arena, CudaDevice& device);
  ~Program();

  // Runs every operation of a range in order (on a GPU, a whole program in one launch) and waits for the last. Allocates nothing.
  void run(Graph::Range range);
  // On a GPU, captures a part of a program, so that running it later allocates nothing either: launched one by one, products of the
  // matrix library would. Call it before anything is sealed.
  void prepare(Graph::Range range);
  // time_next_run makes the next run of the range that was prepared last store each operation's time. This costs a little time
  // and changes no bit. Call prepare_times before anything is sealed; `milliseconds` has one element per operation of the
  // range.
  void prepare_times(Graph::Range range);
  void time_next_run(std::span<double> milliseconds) { times_ = milliseconds; }

  // On a GPU, the host cannot dereference a tensor's address in the device arena: use read and write.
  TensorView view(TensorId id) const { return bindings_[id]; }
  const Arena& arena() const { return arena_; }

  // Copy bytes of a tensor, from `begin` on, from or to host memory. For use between steps, at start-up and at the end.
  void write(TensorId id, const void* from, Bytes bytes, Bytes begin = 0);
  void read(TensorId id, void* to, Bytes bytes, Bytes begin = 0) const;
  // Copies between any addresses of the arena and the host, asynchronously: complete when wait() returns.
  void copy(const void* from, void* to, Bytes bytes) const;
  void wait() const;
  // has_reached: whether all work submitted before the mark is complete. On a GPU these are the device's marks
  // (CudaDevice::reserve_marks), which nothing else may set meanwhile.
  void mark(std::size_t number) const;
  bool has_reached(std::size_t number) const;
  void clear(TensorId id);  // sets all bytes to zero

  // "cpu, 2 threads", "NVIDIA H200"
  std::string device_name() const;
  double milliseconds() const { return milliseconds_; }  // device time of the latest run
  std::int64_t synchronizations() const;                 // number of times the host has waited for a GPU
  Bytes gpu_bytes() const;                               // held by the process on the GPU; 0 on a CPU

  // For debugging: fills every transient with NaN bytes (0xFF) before the first run and at the end of its lifetime, so that an
  // operation reading a dead tensor shows.
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
  Graph::Range timed_;
};

}  // namespace neurogen
