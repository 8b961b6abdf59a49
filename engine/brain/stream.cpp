// What a stream of single tokens needs instead of a window.
#include "engine/brain/builder.h"
#include "kernels/attention.h"
#include "kernels/copy.h"

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
  position_ = graph_.transient("position", DType::i64, {2});
  const TensorId host = brain_.host_position, position = position_;
  graph_.operation("position", {host}, {position}, [=](auto& device, const Bindings& at) { copy(device, at[host], at[position]); });
}

void Builder::attend_ring(const std::string& name, TensorId currents, TensorId pre_norm) {
  const TensorId keys = keys_, values = values_, position = position_;
  graph_.operation(name + ".attention", {currents, position}, {keys, values, pre_norm}, [=](auto& device, const Bindings& at) {
    attention_step(device, {at[currents], at[keys], at[values], at[position].rows(0, 1), at[position].rows(1, 1), at[pre_norm]});
  });
}

}  // namespace neurogen
