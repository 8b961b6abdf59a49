#include "engine/model/update.h"

#include "kernels/adamw.h"
#include "kernels/copy.h"
#include "kernels/gradient_norm.h"
#include "kernels/loss_scale.h"
#include "kernels/rowwise_rmsprop.h"

namespace neurogen {
namespace {

// Adds the norm of all gradients but the decoder's, which are not in `parameters`, and the factor that clips it. Returns both, [2].
TensorId add_norm(Assembly& s, const std::vector<Parameter>& parameters) {
  struct Part {
    TensorId gradient, count;
  };
  std::vector<Part> parts;
  std::vector<TensorId> reads;
  std::int64_t partial_count = 0;
  for (const Parameter& p : parameters) {
    parts.push_back({p.gradient, p.touched.count});
    reads.insert(reads.end(), {p.gradient, p.touched.count});
    partial_count += norm_partials(static_cast<std::int64_t>(size_of(DType::u8, s.graph.tensors()[p.gradient.index].shape)));
  }
  const TensorId partials = s.graph.transient("norm.partials", DType::f64, {partial_count});
  const TensorId norm = s.graph.transient("norm", s.real, {2}), host = s.model.ports.norm, control = s.control;
  const double limit = s.options.clip;
  reads.push_back(control);
  s.graph.operation("norm", reads, {partials, norm, host}, [=](auto& device, const Bindings& at) {
    SumOfSquares squares{{}, at[partials]};
    for (const Part& part : parts) squares.tensors.add({at[part.gradient], at[part.count]});
    sum_of_squares(device, squares);
    clip_factor(device, {at[partials], limit, at[norm], at[control]});
    copy(device, at[norm], at[host]);
  });
  if (const TensorId scale = s.model.loss_scale) {
    const TensorId outcome = s.model.ports.outcome;
    s.graph.operation("loss_scale.end", {norm}, {control, scale, outcome}, [=](auto& device, const Bindings& at) {
      loss_scale_end(device, {at[norm], at[control], at[scale]});
      copy(device, at[control], at[outcome]);
    });
  }
  return norm;
}

}  // namespace

void declare_moments(Assembly& s) {
  for (Parameter& p : s.model.parameters) {
    if (p.rule == UpdateRule::adafactor) continue;
    const bool table = p.rule == UpdateRule::rowwise_rmsprop;
    if (!table) p.m = s.persistent(p.name + ".m", s.real, p.shape);
    p.v = s.persistent(p.name + ".v", s.real, table ? Shape{p.shape[0]} : p.shape);
  }
}

void add_update(Assembly& s) {
  std::vector<Parameter> parameters;
  for (const Parameter& p : s.model.parameters) {
    if (p.rule != UpdateRule::adafactor) parameters.push_back(p);
  }
  const TensorId control = s.control, norm = add_norm(s, parameters);
  struct Update {
    TensorId gradient, value, m, v;
    double decay;
    TensorId low;
  };
  std::vector<Update> updates;
  std::vector<TensorId> reads = {control, norm}, writes;
  for (const Parameter& p : parameters) {
    const TensorId gradient = p.gradient, value = p.value, v = p.v;
    if (p.rule == UpdateRule::rowwise_rmsprop) {
      const auto [rows, count] = p.touched;
      s.graph.operation("update." + p.name, {control, norm, rows, count, gradient}, {value, v},
                        [=, rows = rows, count = count](auto& device, const Bindings& at) {
                          rowwise_rmsprop(device, {at[control], at[norm], at[rows], at[count], at[gradient], at[value], at[v]});
                        });
      continue;
    }
    updates.push_back({gradient, value, p.m, v, p.rule == UpdateRule::adamw_decay ? s.options.synapse_decay : 0, p.low});
    reads.push_back(gradient);
    writes.insert(writes.end(), {value, p.m, v, p.low});
  }
  s.graph.operation("update", reads, writes, [=](auto& device, const Bindings& at) {
    AdamW all{at[control], at[norm], {}};
    for (const Update& u : updates) all.updates.add({at[u.gradient], at[u.value], at[u.m], at[u.v], u.decay, at[u.low]});
    adamw(device, all);
  });
}

}  // namespace neurogen
