#include "engine/graph/machine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>
#include <vector>

#ifdef NEUROGEN_CUDA
#include "kernels/base/cuda_device.h"
#endif
#ifdef NEUROGEN_SANITIZE_ADDRESS
#include <sanitizer/asan_interface.h>
#endif

namespace neurogen {
namespace {

// An arena is one block to AddressSanitizer. While operations run, a fence marks the buffers in it: bytes of live buffers may be
// accessed, those between them may not. Afterwards all bytes are accessible again, for copies of whole images.
#ifdef NEUROGEN_SANITIZE_ADDRESS
class Fence {
 public:
  Fence(const Arena& arena, std::size_t operation) : arena_(arena) {
    for (const ArenaKind kind : {ArenaKind::device, ArenaKind::host}) {
      __asan_poison_memory_region(arena.data(kind), arena.block(kind).size());
    }
    for (const Buffer& b : arena.plan().buffers) {
      if (b.first_op <= static_cast<std::int64_t>(operation) && static_cast<std::int64_t>(operation) <= b.last_op) open(b);
    }
  }
  ~Fence() {
    for (const ArenaKind kind : {ArenaKind::device, ArenaKind::host}) {
      __asan_unpoison_memory_region(arena_.data(kind), arena_.block(kind).size());
    }
  }
  void before(std::size_t operation) {
    for (const Buffer& b : arena_.plan().buffers) {
      if (b.first_op == static_cast<std::int64_t>(operation)) open(b);
    }
  }
  void after(std::size_t operation) {
    for (const Buffer& b : arena_.plan().buffers) {
      if (b.last_op == static_cast<std::int64_t>(operation)) __asan_poison_memory_region(arena_.data(b.arena) + b.offset, b.bytes);
    }
  }

 private:
  void open(const Buffer& b) { __asan_unpoison_memory_region(arena_.data(b.arena) + b.offset, b.bytes); }
  const Arena& arena_;
};
#else
struct Fence {
  Fence(const Arena&, std::size_t) {}
  void before(std::size_t) {}
  void after(std::size_t) {}
};
#endif

struct Cpu : Machine {
  CpuDevice& device;
  const Arena& arena;
  Cpu(CpuDevice& device_, const Arena& arena_) : device(device_), arena(arena_) {}

  std::string name() const override { return fmt::format("cpu, {} thread{}", device.threads(), device.threads() == 1 ? "" : "s"); }
  double run(const Graph& graph, Graph::Range range, const Bindings& at) override {
    Fence fence(arena, range.begin);
    const auto begin = std::chrono::steady_clock::now();
    for (std::size_t o = range.begin; o < range.end; ++o) {
      fence.before(o);
      graph.operations()[o].on_cpu(device, at);
      fence.after(o);
    }
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
  }
  void prepare(const Graph&, Graph::Range, const Bindings&) override {}
  void prepare_times(const Graph&, Graph::Range, const Bindings&) override {}
  double run_timed(const Graph& graph, Graph::Range range, const Bindings& at, std::span<double> milliseconds) override {
    double sum = 0;
    for (std::size_t i = 0; i < milliseconds.size(); ++i)
      sum += milliseconds[i] = run(graph, {range.begin + i, range.begin + i + 1}, at);
    return sum;
  }
  void copy(const void* from, void* to, Bytes bytes) override { std::memcpy(to, from, bytes); }
  void wait() override {}
  void mark(std::size_t) override {}
  bool has_reached(std::size_t) override { return true; }
  void fill(void* to, int byte, Bytes bytes) override { std::memset(to, byte, bytes); }
  std::int64_t synchronizations() const override { return 0; }
  Bytes gpu_bytes() const override { return 0; }
};

#ifdef NEUROGEN_CUDA
struct Gpu : Machine {
  CudaDevice& device;
  std::vector<std::pair<Graph::Range, CudaGraph>> captured;  // every program of the graph, and parts of them
  CudaGraph timed;                                           // a range, with a mark before each operation and after the last

  Gpu(CudaDevice& device_, const Graph& graph, const Arena& arena, const Bindings& at) : device(device_) {
    for (const Graph::Range range : graph.programs()) {
      if (range.begin == range.end) continue;
      each(graph, range, at);
      device.synchronize();
      prepare(graph, range, at);
    }
    const std::vector<Buffer>& buffers = arena.plan().buffers;
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      if (buffers[i].kind != BufferKind::transient) fill(arena.view(i).data, 0, buffers[i].bytes);
    }
    device.synchronize();
  }

  void each(const Graph& graph, Graph::Range range, const Bindings& at) {
    for (std::size_t o = range.begin; o < range.end; ++o) graph.operations()[o].on_cuda(device, at);
  }

  auto find(Graph::Range range) {
    return std::find_if(captured.begin(), captured.end(), [&](const auto& one) { return one.first == range; });
  }

  std::string name() const override { return device.name(); }
  double run(const Graph& graph, Graph::Range range, const Bindings& at) override {
    device.mark();
    if (const auto found = find(range); found != captured.end()) device.launch(found->second);
    else each(graph, range, at);  // part of a program, for tests and measurements
    device.mark();
    device.synchronize();
    return device.milliseconds_between_marks();
  }
  void prepare(const Graph& graph, Graph::Range range, const Bindings& at) override {
    if (find(range) != captured.end()) return;
    device.begin_capture();
    each(graph, range, at);
    captured.emplace_back(range, device.end_capture());
  }
  // Captured like the programs: launched one by one, products would allocate.
  void prepare_times(const Graph& graph, Graph::Range range, const Bindings& at) override {
    device.reserve_marks(range.end - range.begin + 1);
    device.begin_capture();
    for (std::size_t o = range.begin; o < range.end; ++o) {
      device.mark(o - range.begin);
      each(graph, {o, o + 1}, at);
    }
    device.mark(range.end - range.begin);
    timed = device.end_capture();
  }
  double run_timed(const Graph&, Graph::Range, const Bindings&, std::span<double> milliseconds) override {
    device.launch(timed);
    device.synchronize();
    double sum = 0;
    for (std::size_t i = 0; i < milliseconds.size(); ++i) sum += milliseconds[i] = device.milliseconds_after_mark(i);
    return sum;
  }
  void copy(const void* from, void* to, Bytes bytes) override { device.copy(from, to, bytes); }
  void wait() override { device.synchronize(); }
  void mark(std::size_t number) override { device.mark(number); }
  bool has_reached(std::size_t number) override { return device.has_reached(number); }
  void fill(void* to, int byte, Bytes bytes) override { device.fill(to, byte, bytes); }
  std::int64_t synchronizations() const override { return device.synchronizations(); }
  Bytes gpu_bytes() const override { return device.used_by_us(); }
};
#endif

}  // namespace

std::unique_ptr<Machine> machine_of(CpuDevice& device, const Arena& arena) { return std::make_unique<Cpu>(device, arena); }

#ifdef NEUROGEN_CUDA
std::unique_ptr<Machine> machine_of(CudaDevice& device, const Graph& graph, const Arena& arena, const Bindings& at) {
  return std::make_unique<Gpu>(device, graph, arena, at);
}
#endif

}  // namespace neurogen
