// Tensors and operations for a stream of single tokens.
#include "engine/brain/builder.h"
#include "engine/brain/views.h"
#include "kernels/attention.h"
#include "kernels/copy.h"
#include "kernels/cortical_columns.h"

namespace neurogen {

TensorId Builder::remembered(const std::string& name, const Shape& shape) {
  const TensorId id = graph_.tensor(name, real_, shape, BufferKind::derived);
  brain_.state.push_back(id);
  return id;
}

void Builder::declare_stream(std::int64_t ring) {
  ring_ = ring;
  const std::int64_t width = architecture_.modules[kHippocampus].outputs;
  keys_ = remembered("hippocampus.keys", {1, ring_, width});
  values_ = remembered("hippocampus.values", {1, ring_, width});
  if (single()) done_ = graph_.tensor("columns.done", DType::i32, {kModules}, BufferKind::derived);
  position_ = graph_.transient("position", DType::i64, {2});
  const TensorId host = brain_.host_position, position = position_;
  graph_.operation("position", {host}, {position}, [=](auto& device, const Bindings& at) { copy(device, at[host], at[position]); });
}

void Builder::step_columns(const std::string& name, ModuleIndex module, const Activations& a, TensorId pre_norm, TensorId state,
                           TensorId before) {
  const ModuleParameters p = module_[module];
  const Module& shape = architecture_.modules[module];
  const auto [residual, opener, gate_bias] = companions(module, a);
  const std::vector<TensorId> sources = source_ids(module, a);
  const TensorId wiring = brain_.wiring[module], done = done_, out = a.output[module], scale = a.scale[module];
  const std::int64_t stripe = architecture_.stripe();
  std::vector<TensorId> reads = sources;
  reads.insert(reads.end(), {wiring, p.low_synapses, p.taps, p.bias, p.retain, opener, gate_bias, residual, p.gain});
  graph_.gpu_operation(
      name + ".step", reads, {state, before, pre_norm, done, out, scale},
      [=](auto& device, const Bindings& at) {
        cortical_columns_step(
            device, {sources_at(at, sources, {0, 1}), at[wiring], at[p.low_synapses], taps_of(at[p.taps]), at[p.bias], at[p.retain],
                     Gate{at[opener], at[gate_bias], stripe, 0}, at[residual], at[state], at[before], at[p.gain], at[pre_norm],
                     at[done].rows(module, 1), at[out], at[scale]});
      },
      product_cost(shape.groups(), 1, kGroup * shape.roles(), shape.reach()));
}

void Builder::attend_ring(const std::string& name, TensorId currents, TensorId pre_norm) {
  const TensorId keys = keys_, values = values_, position = position_;
  graph_.operation(name + ".attention", {currents, position}, {keys, values, pre_norm}, [=](auto& device, const Bindings& at) {
    attention_step(device, {at[currents], at[keys], at[values], at[position].rows(0, 1), at[position].rows(1, 1), at[pre_norm]});
  });
}

}  // namespace neurogen
