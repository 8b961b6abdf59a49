// Tensors and operations for a stream of single tokens.
#include "engine/brain/trunk.h"
#include "engine/brain/views.h"
#include "kernels/brain/attention.h"
#include "kernels/brain/cortical_columns.h"
#include "kernels/copy.h"

namespace neurogen {

TensorId BrainTrunk::step(const std::string& prefix, std::int64_t ring) {
  ring_ = ring;
  const std::int64_t width = shape_.modules[kHippocampus].outputs;
  keys_ = s_.state("hippocampus.keys", s_.real, {1, ring_, width});
  values_ = s_.state("hippocampus.values", s_.real, {1, ring_, width});
  if (single()) done_ = s_.derived("columns.done", DType::i32, {kModules});
  const TensorId host = s_.model.ports.position, position = position_ = s_.graph.transient("position", DType::i64, {2});
  s_.graph.operation("position", {host}, {position},
                     [=](auto& device, const Bindings& at) { copy(device, at[host], at[position]); });
  // On a GPU, the memory is cleared after a document's end instead of looking for one (Stream).
  return forward(s_.read_batch(prefix, s_.model.ports.token, false, !single()), prefix, false);
}

void BrainTrunk::step_columns(const std::string& name, ModuleIndex module, const Activations& a, TensorId pre_norm, TensorId state,
                              TensorId before) {
  const ModuleParameters p = parameters(module);
  const Module& shape = shape_.modules[module];
  const auto [residual, opener, gate_bias] = companions(module, a);
  const std::vector<TensorId> sources = source_ids(module, a);
  const TensorId wiring = wiring_[module], done = done_, out = a.output[module], scale = a.scale[module];
  const std::int64_t stripe = shape_.stripe();
  std::vector<TensorId> reads = sources;
  reads.insert(reads.end(), {wiring, p.low_synapses, p.taps, p.bias, p.retain, opener, gate_bias, residual, p.gain});
  s_.graph.gpu_operation(
      name + ".step", reads, {state, before, pre_norm, done, out, scale},
      [=](auto& device, const Bindings& at) {
        cortical_columns_step(
            device, {sources_at(at, sources, {0, 1}), at[wiring], at[p.low_synapses], taps_of(at[p.taps]), at[p.bias], at[p.retain],
                     Gate{at[opener], at[gate_bias], stripe, 0}, at[residual], at[state], at[before], at[p.gain], at[pre_norm],
                     at[done].rows(module, 1), at[out], at[scale]});
      },
      s_.product_cost(shape.groups(), 1, kGroup * shape.roles(), shape.reach()));
}

void BrainTrunk::attend_ring(const std::string& name, TensorId currents, TensorId pre_norm) {
  const TensorId keys = keys_, values = values_, position = position_;
  s_.graph.operation(name + ".attention", {currents, position}, {keys, values, pre_norm}, [=](auto& device, const Bindings& at) {
    attention_step(device, {at[currents], at[keys], at[values], at[position].rows(0, 1), at[position].rows(1, 1), at[pre_norm]});
  });
}

}  // namespace neurogen
