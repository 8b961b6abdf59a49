// The embedding's touched rows, clipping by the norm of all gradients but the decoder's, and AdamW.
#include <algorithm>

#include "engine/brain/builder.h"
#include "kernels/adamw.h"
#include "kernels/copy.h"
#include "kernels/embedding.h"
#include "kernels/gradient_norm.h"
#include "kernels/loss_scale.h"

namespace neurogen {

Builder::TouchedRows Builder::touched_rows(const Activations& a) {
  const std::int64_t n = options_.tokens(), vocabulary = architecture_.vocabulary, most = std::min(n, vocabulary);
  const TensorId ids = a.ids;
  const TensorId histogram = options_.threads == 0 ? TensorId{} : graph_.transient("embedding.histogram", DType::i32, {vocabulary});
  const TouchedRows t{graph_.transient("embedding.rows", DType::i32, {most}),
                      graph_.transient("embedding.row_start", DType::i32, {most + 1}),
                      graph_.transient("embedding.order", DType::i32, {n}), graph_.transient("embedding.count", DType::i32, {1})};
  graph_.operation(
      "embedding.rows", {ids}, {histogram, t.rows, t.row_start, t.order, t.count}, [=](auto& device, const Bindings& at) {
        embedding_rows(device, {at[ids], vocabulary, at[histogram], at[t.rows], at[t.row_start], at[t.order], at[t.count]});
      });
  return t;
}

// Gradients of the parameters in canonical order; empty for the decoder, which is already updated.
std::vector<TensorId> Builder::in_order(const Gradients& g) const {
  std::vector<TensorId> list = {g.embedding_rows, g.embedding_gain};
  for (int m = 0; m < kModules; ++m) {
    list.insert(list.end(), {g.synapses[m], g.taps[m], g.bias[m], g.gain[m]});
    if (m != kHippocampus) list.push_back(g.retain[m]);
  }
  list.push_back(g.gate_bias);
  list.push_back({});
  return list;
}

void Builder::update(const Gradients& gradients, const TouchedRows& touched) {
  const std::vector<TensorId> list = in_order(gradients);
  std::vector<TensorId> reads = list;
  std::int64_t partial_count = 0;
  for (TensorId id : list) {
    if (id) partial_count += norm_partials(static_cast<std::int64_t>(size_of(DType::u8, graph_.tensors()[id.index].shape)));
  }
  const TensorId partials = graph_.transient("norm.partials", DType::f64, {partial_count});
  const TensorId norm = graph_.transient("norm", real_, {2}), host = brain_.host_norm, count = touched.count;
  const TensorId control = brain_.control, touched_rows = gradients.embedding_rows;
  const double limit = options_.clip;
  reads.insert(reads.end(), {count, control});
  graph_.operation("norm", reads, {partials, norm, host}, [=](auto& device, const Bindings& at) {
    SumOfSquares squares{{}, at[partials]};
    for (TensorId id : list) {
      if (id) squares.tensors.add({at[id], id.index == touched_rows.index ? at[count] : TensorView{}});
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
    if (p.rule == UpdateRule::adamw_rows) {
      const TensorId steps = brain_.embedding_steps, rows = touched.rows;
      graph_.operation("update." + p.name, {control, norm, rows, count, gradient}, {p.value, p.m, p.v, steps},
                       [=](auto& device, const Bindings& at) {
                         adamw_rows(device, {at[control], at[norm], at[rows], at[count], at[gradient], at[p.value], at[p.m],
                                             at[p.v], at[steps]});
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
