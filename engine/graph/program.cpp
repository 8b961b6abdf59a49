#include "engine/graph/program.h"

#include <utility>

#include "engine/graph/machine.h"

namespace neurogen {
namespace {

constexpr int kPoison = 0xFF;  // bytes of NaN

Bindings bind(const Graph& graph, const Arena& arena) {
  std::vector<TensorView> views;
  for (std::size_t i = 0; i < graph.tensors().size(); ++i) views.push_back(arena.view(i));
  return Bindings(std::move(views));
}

}  // namespace

Program::Program(const Graph& graph, const Arena& arena, CpuDevice& device)
    : graph_(graph), arena_(arena), bindings_(bind(graph, arena)), machine_(machine_of(device, arena)) {}

#ifdef NEUROGEN_CUDA
Program::Program(const Graph& graph, const Arena& arena, CudaDevice& device)
    : graph_(graph), arena_(arena), bindings_(bind(graph, arena)), machine_(machine_of(device, graph, arena, bindings_)) {}
#endif

Program::~Program() = default;

void Program::run(Graph::Range range) {
  if (!times_.empty() && range == timed_) {
    milliseconds_ = machine_->run_timed(graph_, range, bindings_, std::exchange(times_, {}));
    return;
  }
  if (!poison_) {
    milliseconds_ = machine_->run(graph_, range, bindings_);
    return;
  }
  const std::vector<Buffer>& buffers = arena_.plan().buffers;
  for (std::size_t o = range.begin; o < range.end; ++o) {
    machine_->run(graph_, {o, o + 1}, bindings_);
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      if (buffers[i].kind == BufferKind::transient && buffers[i].last_op == static_cast<std::int64_t>(o)) fill({i}, kPoison);
    }
  }
}

void Program::prepare(Graph::Range range) { machine_->prepare(graph_, range, bindings_); }

void Program::prepare_times(Graph::Range range) {
  timed_ = range;
  machine_->prepare_times(graph_, range, bindings_);
}

void Program::copy(const void* from, void* to, Bytes bytes) const { machine_->copy(from, to, bytes); }
void Program::wait() const { machine_->wait(); }
void Program::mark(std::size_t number) const { machine_->mark(number); }
bool Program::has_reached(std::size_t number) const { return machine_->has_reached(number); }

void Program::write(TensorId id, const void* from, Bytes bytes, Bytes begin) {
  copy(from, view(id).as<std::byte>() + begin, bytes);
  wait();
}

void Program::read(TensorId id, void* to, Bytes bytes, Bytes begin) const {
  copy(view(id).as<std::byte>() + begin, to, bytes);
  wait();
}

void Program::clear(TensorId id) { fill(id, 0); }
void Program::fill(TensorId id, int byte) { machine_->fill(view(id).data, byte, arena_.plan().buffers[id.index].bytes); }

std::string Program::device_name() const { return machine_->name(); }
std::int64_t Program::synchronizations() const { return machine_->synchronizations(); }
Bytes Program::gpu_bytes() const { return machine_->gpu_bytes(); }

void Program::set_poison(bool on) {
  poison_ = on;
  if (!on) return;
  const std::vector<Buffer>& buffers = arena_.plan().buffers;
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    if (buffers[i].kind == BufferKind::transient) fill({i}, kPoison);
  }
}

}  // namespace neurogen
