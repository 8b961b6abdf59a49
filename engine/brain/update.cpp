// Clips by the norm of all gradients but the decoder's, and updates: tables by row-wise RMSProp, the rest by AdamW.
#include "engine/brain/builder.h"
#include "kernels/adamw.h"
#include "kernels/copy.h"
#include "kernels/gradient_norm.h"
#include "kernels/loss_scale.h"
#include "kernels/rowwise_rmsprop.h"

namespace neurogen {

// Gradients of the parameters in canonical order; empty for the decoder, which is already updated.
std::vector<TensorId> Builder::in_order(const Gradients& g) const {
  std::vector<TensorId> list = {g.embedding_weight.gradient};
  if (architecture_.pairs > 0) list.push_back(g.embedding_pairs.gradient);
  list.push_back(g.embedding_gain);
  for (int m = 0; m < kModules; ++m) {
    list.insert(list.end(), {g.synapses[m], g.taps[m], g.bias[m], g.gain[m]});
    if (m != kHippocampus) list.push_back(g.retain[m]);
  }
  list.push_back(g.gate_bias);
  list.push_back({});
  return list;
}

void Builder::update(const Gradients& gradients) {
  const std::vector<TensorId> list = in_order(gradients);
  std::vector<TensorId> reads = list;
  std::int64_t partial_count = 0;
  for (TensorId id : list) {
    if (id) partial_count += norm_partials(static_cast<std::int64_t>(size_of(DType::u8, graph_.tensors()[id.index].shape)));
  }
  const TensorId partials = graph_.transient("norm.partials", DType::f64, {partial_count});
  const TensorId norm = graph_.transient("norm", real_, {2}), host = brain_.host_norm, control = brain_.control;
  const TouchedTable weight = gradients.embedding_weight, pairs = gradients.embedding_pairs;
  const auto table_of = [=](TensorId gradient) {
    return gradient.index == weight.gradient.index                    ? weight
           : pairs.gradient && gradient.index == pairs.gradient.index ? pairs
                                                                      : TouchedTable{};
  };
  const double limit = options_.clip;
  reads.insert(reads.end(), {weight.count, pairs.count, control});
  graph_.operation("norm", reads, {partials, norm, host}, [=](auto& device, const Bindings& at) {
    SumOfSquares squares{{}, at[partials]};
    for (TensorId id : list) {
      if (id) squares.tensors.add({at[id], at[table_of(id).count]});
    }
    sum_of_squares(device, squares);
    clip_factor(device, {at[partials], limit, at[norm], at[control]});
    copy(device, at[norm], at[host]);
  });
  if (const TensorId state = brain_.loss_scale) {
    const TensorId outcome = brain_.host_outcome;
    graph_.operation("loss_scale.end", {norm}, {control, state, outcome}, [=](auto& device, const Bindings& at) {
      loss_scale_end(device, {at[norm], at[control], at[state]});
      copy(device, at[control], at[outcome]);
    });
  }

  struct Update {
    TensorId gradient, value, m, v;
    double decay;
    TensorId low;
  };
  std::vector<Update> updates;
  std::vector<TensorId> read = {control, norm}, written;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const Parameter p = brain_.parameters[i];
    const TensorId gradient = list[i];
    if (p.rule == UpdateRule::adafactor) continue;
    if (p.rule == UpdateRule::rowwise_rmsprop) {
      const TouchedTable t = table_of(gradient);
      graph_.operation(
          "update." + p.name, {control, norm, t.rows, t.count, gradient}, {p.value, p.v}, [=](auto& device, const Bindings& at) {
            rowwise_rmsprop(device, {at[control], at[norm], at[t.rows], at[t.count], at[gradient], at[p.value], at[p.v]});
          });
      continue;
    }
    const TensorId low = low_copy(p.value);
    updates.push_back({gradient, p.value, p.m, p.v, p.rule == UpdateRule::adamw_decay ? options_.synapse_decay : 0, low});
    read.push_back(gradient);
    written.insert(written.end(), {p.value, p.m, p.v, low});
  }
  graph_.operation("update", read, written, [=](auto& device, const Bindings& at) {
    AdamW all{at[control], at[norm], {}};
    for (const Update& u : updates) all.updates.add({at[u.gradient], at[u.value], at[u.m], at[u.v], u.decay, at[u.low]});
    adamw(device, all);
  });
  brain_.gradients = list;
}

}  // namespace neurogen
