#include "engine/model/update.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "arena/error.h"
#include "engine/model/exchange.h"
#include "kernels/adamw.h"
#include "kernels/copy.h"
#include "kernels/gradient_norm.h"
#include "kernels/loss_scale.h"
#include "kernels/matrix_muon.h"
#include "kernels/rowwise_rmsprop.h"

namespace neurogen {
namespace {

std::int64_t elements_of(const ParameterSpec& p) { return static_cast<std::int64_t>(size_of(DType::u8, p.shape)); }

bool is_updated_here(const Parameter& p) { return p.rule != UpdateRule::adafactor && p.rule != UpdateRule::none; }

// The sums of squares of some parameters' gradients.
struct Squares {
  struct Part {
    TensorId gradient, count;
  };
  std::vector<Part> parts;
  std::vector<TensorId> reads;
  std::int64_t count = 0;  // of partial sums

  Squares(const Assembly& s, const std::vector<Parameter>& parameters) {
    for (const Parameter& p : parameters) {
      parts.push_back({p.gradient, p.touched.count});
      reads.insert(reads.end(), {p.gradient, p.touched.count});
      count += norm_partials(static_cast<std::int64_t>(size_of(DType::u8, s.graph.tensors()[p.gradient.index].shape)));
    }
  }

  template <typename Device>
  void run(Device& device, const Bindings& at, const TensorView& partials) const {
    std::int64_t begin = 0;
    in_lots<SumOfSquares::Of>(
        parts,
        [&](const Part& part) {
          return SumOfSquares::Of{at[part.gradient], at[part.count]};
        },
        [&](const Several<SumOfSquares::Of>& lot) {
          std::int64_t sums = 0;
          for (const SumOfSquares::Of& one : lot) sums += norm_partials(one.x.elements());
          sum_of_squares(device, {lot, partials.rows(begin, sums)});
          begin += sums;
        });
  }
};

// Adds what follows the norm of all gradients: under a loss scale, whether they overflowed.
void end_loss_scale(Assembly& s, TensorId norm) {
  const TensorId control = s.control, outcome = s.model.ports.outcome, scale = s.model.loss_scale;
  if (!scale) return;
  s.graph.operation("loss_scale.end", {norm}, {control, scale, outcome}, [=](auto& device, const Bindings& at) {
    loss_scale_end(device, {at[norm], at[control], at[scale]});
    copy(device, at[control], at[outcome]);
  });
}

// Adds the norm of the gradients of `parameters`, and the factor that clips it. Returns both, [2].
TensorId add_norm(Assembly& s, const std::vector<Parameter>& parameters) {
  const Squares squares(s, parameters);
  const TensorId partials = s.graph.transient("norm.partials", DType::f64, {squares.count});
  const TensorId norm = s.graph.transient("norm", s.real, {2}), host = s.model.ports.norm, control = s.control;
  const double limit = s.options.clip;
  std::vector<TensorId> reads = squares.reads;
  reads.push_back(control);
  s.graph.operation("norm", reads, {partials, norm, host}, [=](auto& device, const Bindings& at) {
    squares.run(device, at, at[partials]);
    clip_factor(device, {at[partials], limit, at[norm], at[control]});
    copy(device, at[norm], at[host]);
  });
  end_loss_scale(s, norm);
  return norm;
}

struct Update {
  TensorId gradient, value, m, v, low, m_scale, v_scale;
  double decay;
  std::uint64_t draws;
};

// The parameters under one rule, which are updated in one operation.
struct Updates {
  std::vector<Update> list;
  std::vector<TensorId> reads, writes;
  void add(const Parameter& p) {
    list.push_back({p.gradient, p.value, p.m, p.v, p.low, p.m_scale, p.v_scale, p.decay, p.draws});
    reads.push_back(p.gradient);
    writes.insert(writes.end(), {p.value, p.m, p.v, p.low, p.m_scale, p.v_scale});
  }
};

// Adds the update of all parameters under AdamW.
void add_adamw(Assembly& s, const std::string& name, TensorId norm, const Updates& updates) {
  const TensorId control = s.control;
  s.graph.operation(name, updates.reads, updates.writes, [=, list = updates.list](auto& device, const Bindings& at) {
    in_lots<AdamW::Update>(
        list,
        [&](const Update& u) {
          return AdamW::Update{at[u.gradient], at[u.value],   at[u.m],       at[u.v], u.decay,
                               at[u.low],      at[u.m_scale], at[u.v_scale], u.draws};
        },
        [&](const Several<AdamW::Update>& lot) {
          adamw(device, {at[control], at[norm], lot});
        });
  });
}

// Muon of whole matrices: those of one shape together, as many at a time as the schedule has room for.
void update_matrices(Assembly& s, TensorId norm, std::vector<Parameter> matrices) {
  const TensorId control = s.control;
  const DType type = s.options.target.gpu ? s.compute : s.real;
  std::stable_sort(matrices.begin(), matrices.end(), [](const Parameter& a, const Parameter& b) { return a.shape < b.shape; });
  for (std::size_t begin = 0, end; begin < matrices.size(); begin = end) {
    const Shape& shape = matrices[begin].shape;
    const std::int64_t rows = shape[0], columns = shape[1], side = std::min(rows, columns);
    const Bytes each = 2 * (size_of(type, {rows, columns}) + size_of(type, {side, side}));
    const Bytes most = std::clamp<Bytes>(s.options.schedule.tile_bytes / each, 1, kMostSeveral);
    Updates lot{{}, {control, norm}, {}};
    for (end = begin; end < matrices.size() && end - begin < most && matrices[end].shape == shape; ++end) lot.add(matrices[end]);
    const std::string name = "update." + matrices[begin].name;
    const auto count = static_cast<std::int64_t>(lot.list.size());
    const TensorId x = s.graph.transient(name + ".x", type, {count, rows, columns}),
                   next = s.graph.transient(name + ".next", type, {count, rows, columns}),
                   gram = s.graph.transient(name + ".gram", type, {count, side, side}),
                   square = s.graph.transient(name + ".square", type, {count, side, side}),
                   sums = s.graph.transient(name + ".sums", DType::f64, {count, matrix_muon_sums(rows * columns)});
    lot.writes.insert(lot.writes.end(), {x, next, gram, square, sums});
    const auto products = static_cast<double>(count * kMuonSteps), m = static_cast<double>(side),
               n = static_cast<double>(std::max(rows, columns));
    s.graph.operation(name, lot.reads, lot.writes,
                      [=, list = lot.list](auto& device, const Bindings& at) {
                        MatrixMuon all{at[control], at[norm], {}, at[x], at[next], at[gram], at[square], at[sums]};
                        for (const Update& u : list) all.updates.add({at[u.gradient], at[u.value], at[u.m], 0, at[u.low]});
                        matrix_muon(device, all);
                      },
                      {2 * products * m * m * (2 * n + m)});
  }
}

}  // namespace

void declare_moments(Assembly& s) {
  for (Parameter& p : s.model.parameters) {
    if (!is_updated_here(p)) continue;
    const bool table = p.rule == UpdateRule::rowwise_rmsprop, matrix = p.rule == UpdateRule::muon;
    const bool coded = s.options.narrow_moments && s.stored_narrow(p);
    const DType type = coded ? DType::u8 : s.real;
    const Shape blocks = {moment_blocks(elements_of(p))};
    if (!table) p.m = s.persistent(p.name + ".m", type, p.shape);
    if (!matrix) p.v = s.persistent(p.name + ".v", type, table ? Shape{p.shape[0]} : p.shape);
    if (coded) p.m_scale = s.persistent(p.name + ".m.scale", s.real, blocks);
    if (coded) p.v_scale = s.persistent(p.name + ".v.scale", s.real, blocks);
  }
}

void collect_gradients(Assembly& s) {
  for (ParameterId id = 0; id < s.model.parameters.size(); ++id) {
    Parameter& p = s.model.parameters[id];
    if (!is_updated_here(p)) continue;
    const TensorId value = p.gradient, rows = p.touched.rows, count = p.touched.count;
    p.touched = {};
    s.add_to_mean("mean_d_" + p.name, value, s.declare_mean_gradient(id), 0, rows, count);
    s.graph.hoist();
  }
}

namespace {

// The sums over ranks of gradients, but those of tables, which are of all ranks' rows. All at once, behind the backward pass:
// beside it they would take multiprocessors from kernels that fill the GPU, and cost more time than they hide.
void sum_gradients(Assembly& s, const std::string& name, const std::vector<Parameter>& parameters) {
  if (!s.several_ranks()) return;
  std::vector<TensorId> gradients;
  for (const Parameter& p : parameters)
    if (p.rule != UpdateRule::rowwise_rmsprop) gradients.push_back(p.gradient);
  if (!gradients.empty()) end_exchange(s, begin_sum(s, name, gradients));
}

// `last`: nothing is added to any gradient from here on. Until then, that of a table that is also the decoder has one part alone.
void update_known(Assembly& s, bool last) {
  const std::vector<Parameter>& all = s.model.parameters;
  s.early.done.resize(all.size());
  std::vector<Parameter> known;
  double numbers = 0, all_numbers = 0;
  std::int64_t sums = 0;
  for (ParameterId id = 0; id < all.size(); ++id) {
    if (!is_updated_here(all[id])) continue;
    all_numbers += static_cast<double>(elements_of(all[id]));
    sums += norm_partials(elements_of(all[id]));
    const bool half = !last && s.model.architecture->tied() && all[id].name == "embedding.weight";
    if (!all[id].gradient || s.early.done[id] || half) continue;
    s.early.done[id] = true;
    numbers += static_cast<double>(elements_of(all[id]));
    known.push_back(all[id]);
  }
  if (known.empty()) return;
  if (!s.early.squares) s.early.squares = s.graph.transient("norm.partials", DType::f64, {sums});
  const std::string number = "." + std::to_string(s.early.groups++);
  sum_gradients(s, "gradients" + number, known);
  const Squares squares(s, known);
  const TensorId partials = s.early.squares, norm = s.graph.transient("norm" + number, s.real, {2}), control = s.control;
  const std::int64_t begin = s.early.summed;
  s.early.summed += squares.count;
  const double limit = s.options.clip * std::sqrt(numbers / all_numbers);
  std::vector<TensorId> reads = squares.reads;
  reads.push_back(control);
  s.graph.operation("norm" + number, reads, {partials, norm}, [=](auto& device, const Bindings& at) {
    const TensorView own = at[partials].rows(begin, squares.count);
    squares.run(device, at, own);
    clip_factor(device, {own, limit, at[norm], at[control]});
  });
  if (s.model.loss_scale) {
    s.graph.operation("loss_scale" + number, {norm}, {control}, [=](auto& device, const Bindings& at) {
      loss_scale_end(device, {at[norm], at[control], {}});
    });
  }
  Updates updates{{}, {control, norm}, {}};
  for (const Parameter& p : known) updates.add(p);
  add_adamw(s, "update" + number, norm, updates);
}

}  // namespace

void update_known(Assembly& s) {
  if (s.options.early_updates) update_known(s, false);
}

void add_update(Assembly& s) {
  if (s.options.early_updates) {
    update_known(s, true);
    const TensorId partials = s.early.squares, norm = s.graph.transient("norm", s.real, {2}), host = s.model.ports.norm,
                   control = s.control;
    const double limit = s.options.clip;
    s.graph.operation("norm", {partials, control}, {norm, host}, [=](auto& device, const Bindings& at) {
      clip_factor(device, {at[partials], limit, at[norm], at[control]});
      copy(device, at[norm], at[host]);
    });
    return end_loss_scale(s, norm);
  }
  std::vector<Parameter> parameters;
  for (const Parameter& p : s.model.parameters) {
    if (is_updated_here(p)) parameters.push_back(p);
  }
  sum_gradients(s, "gradients", parameters);
  const TensorId control = s.control, norm = add_norm(s, parameters);
  Updates synapses{{}, {control, norm}, {}}, rest = synapses;
  std::vector<Parameter> matrices;
  std::int64_t scratch_elements = 0;
  for (const Parameter& p : parameters) {
    if (p.rule == UpdateRule::muon && p.shape.size() == 2) {
      matrices.push_back(p);
    } else if (p.rule == UpdateRule::muon) {
      if (s.options.target.gpu && p.shape[1] > kMuonMostFanIn) {
        throw Error(
            {fmt::format("{} has a fan-in of {}, training on a GPU takes up to {}: use ", p.name, p.shape[1], kMuonMostFanIn),
             Field("device"), " cpu or another ", Field("architecture")});
      }
      synapses.add(p);
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
  if (!synapses.list.empty()) {
    const TensorId scratch = s.scratch("update.matrices", scratch_elements);
    synapses.writes.push_back(scratch);
    const double decay = s.options.synapse_decay;
    s.graph.operation("update.matrices", synapses.reads, synapses.writes,
                      [=, list = synapses.list](auto& device, const Bindings& at) {
                        Muon all{at[control], at[norm], {}, at[scratch]};
                        for (const Update& u : list) all.updates.add({at[u.gradient], at[u.value], at[u.m], decay, at[u.low]});
                        muon(device, all);
                      });
  }
  update_matrices(s, norm, matrices);
  add_adamw(s, "update", norm, rest);
}

}  // namespace neurogen
