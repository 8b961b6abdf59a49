// A computation as a list of tensors and a list of operations. Each tensor is declared once; each operation names the tensors that
// it reads and writes. Lifetimes, and so the memory plan, follow from that. Independent of any model.
//
// Declaring a size and obtaining an address are two phases: an operation is written in terms of TensorIds and receives views only
// when it runs, from a plan that is already sealed (program.h).
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "arena/plan.h"
#include "kernels/base/device.h"

namespace neurogen {

struct TensorId {
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  std::size_t index = kNone;
  explicit operator bool() const { return index != kNone; }
};

// Maps ids to views in one arena. The view of an absent tensor (an empty TensorId) is empty.
class Bindings {
 public:
  explicit Bindings(std::vector<TensorView> views) : views_(std::move(views)) {}
  TensorView operator[](TensorId id) const { return id ? views_[id.index] : TensorView{}; }

 private:
  std::vector<TensorView> views_;
};

// The least work that an operation takes, to compare its time with the machine's limits.
struct Cost {
  double flops = 0;   // floating-point operations of its products, 2 for a multiply-add
  double bytes = -1;  // memory read and written, each operand once; -1: all tensors that it touches
};

struct Operation {
  std::string name;
  std::vector<TensorId> reads, writes;  // a tensor that it adds to is among the writes
  Cost cost;
  std::function<void(CpuDevice&, const Bindings&)> on_cpu;
#ifdef NEUROGEN_CUDA
  std::function<void(CudaDevice&, const Bindings&)> on_cuda;
#endif
};

class Graph {
 public:
  TensorId tensor(std::string name, DType dtype, Shape shape, BufferKind kind, ArenaKind arena = ArenaKind::device);
  TensorId transient(std::string name, DType dtype, Shape shape) {
    return tensor(std::move(name), dtype, std::move(shape), BufferKind::transient);
  }

  // `run(auto& device, const Bindings&)` may use only the named tensors; it is compiled for every device of the build. Empty ids in
  // the lists are skipped.
  template <typename Run>
  void operation(std::string name, const std::vector<TensorId>& reads, const std::vector<TensorId>& writes, Run run,
                 Cost cost = {}) {
    Operation& operation = add(std::move(name), reads, writes, cost);
#ifdef NEUROGEN_CUDA
    operation.on_cuda = run;
#endif
    operation.on_cpu = std::move(run);
  }

  // The same for a graph that is planned for a GPU and runs only there.
  template <typename Run>
  void gpu_operation(std::string name, const std::vector<TensorId>& reads, const std::vector<TensorId>& writes,
                     [[maybe_unused]] Run run, Cost cost = {}) {
    [[maybe_unused]] Operation& operation = add(std::move(name), reads, writes, cost);
#ifdef NEUROGEN_CUDA
    operation.on_cuda = std::move(run);
#endif
  }

  // Moves the latest operation of the latest program to directly behind the last one that writes what it reads, so that this need
  // not live on. No operation in between may touch what it writes.
  void hoist();

  // Operations added from here on belong to a program of their own, a range that runs as a unit. Returns where it begins.
  std::size_t begin_program();
  struct Range {
    std::size_t begin = 0, end = 0;
    bool operator==(const Range&) const = default;
  };
  std::vector<Range> programs() const;

  const std::vector<Buffer>& tensors() const { return tensors_; }
  double bytes(TensorId id) const;  // for costs; 0 for an absent tensor
  const std::vector<Operation>& operations() const { return operations_; }

  // The planner's input: every tensor with the lifetime that its operations give it. Throws std::logic_error for a transient that
  // no operation touches.
  PlanRequest plan_request() const;

 private:
  Operation& add(std::string name, const std::vector<TensorId>& reads, const std::vector<TensorId>& writes, Cost cost);

  std::vector<Buffer> tensors_;
  std::vector<Operation> operations_;
  std::vector<std::size_t> programs_;  // where each begins
};

}  // namespace neurogen
