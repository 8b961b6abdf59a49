#include "engine/model/update.h"

#include <fmt/format.h>

#include <algorithm>

#include "arena/error.h"
#include "kernels/adamw.h"
#include "kernels/copy.h"
#include "kernels/gradient_norm.h"
#include "kernels/loss_scale.h"
#include "kernels/muon.h"
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
    const bool table = p.rule == UpdateRule::rowwise_rmsprop, matrix = p.rule == UpdateRule::muon;
    if (!table) p.m = s.persistent(p.name + ".m", s.real, p.shape);
    if (!matrix) p.v = s.persistent(p.name + ".v", s.real, table ? Shape{p.shape[0]} : p.shape);
  }
}

void add_update(Assembly& s) {
  std::vector<Parameter> parameters;
  for (const Parameter& p : s.model.parameters) {
    if (p.rule != UpdateRule::adafactor) parameters.push_back(p);
  }
  const TensorId control = s.control, norm = add_norm(s, parameters);
  struct Update {
    TensorId gradient, value, m, v, low;
  };
  // Of all parameters under a rule that takes them at once.
  struct Updates {
    std::vector<Update> list;
    std::vector<TensorId> reads, writes;
    void add(const Parameter& p) {
      list.push_back({p.gradient, p.value, p.m, p.v, p.low});
      reads.push_back(p.gradient);
      writes.insert(writes.end(), {p.value, p.m, p.v, p.low});
    }
  };
  Updates matrices{{}, {control, norm}, {}}, rest{{}, {control, norm}, {}};
  std::int64_t scratch_elements = 0;
  for (const Parameter& p : parameters) {
    if (p.rule == UpdateRule::muon) {
      if (s.options.target.gpu && p.shape[1] > kMuonMostFanIn) {
        throw Error(
            {fmt::format("{} has a fan-in of {}, training on a GPU takes up to {}: use ", p.name, p.shape[1], kMuonMostFanIn),
             Field("device"), " cpu or another ", Field("architecture")});
      }
      matrices.add(p);
      scratch_elements = std::max(scratch_elements, muon_scratch(p.shape[1]));
    } else if (p.rule == UpdateRule::adamw) {
      rest.add(p);
    } else {
      const TensorId gradient = p.gradient, value = p.value, v = p.v, rows = p.touched.rows, count = p.touched.count;
      s.graph.operation("update." + p.name, {control, norm, rows, count, gradient}, {value, v},
                        [=](auto& device, const Bindings& at) {
                          rowwise_rmsprop(device, {at[control], at[norm], at[rows], at[count], at[gradient], at[value], at[v]});
                        });
    }
  }
  if (!matrices.list.empty()) {
    const TensorId scratch = s.scratch("update.matrices", scratch_elements);
    matrices.writes.push_back(scratch);
    const double decay = s.options.synapse_decay;
    s.graph.operation("update.matrices", matrices.reads, matrices.writes,
                      [=, list = matrices.list](auto& device, const Bindings& at) {
                        Muon all{at[control], at[norm], {}, at[scratch]};
                        for (const Update& u : list) all.updates.add({at[u.gradient], at[u.value], at[u.m], decay, at[u.low]});
                        muon(device, all);
                      });
  }
  s.graph.operation("update", rest.reads, rest.writes, [=, list = rest.list](auto& device, const Bindings& at) {
    AdamW all{at[control], at[norm], {}};
    for (const Update& u : list) all.updates.add({at[u.gradient], at[u.value], at[u.m], at[u.v], 0, at[u.low]});
    adamw(device, all);
  });
}

}  // namespace neurogen
