#include "engine/model/update.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "arena/error.h"
#include "engine/model/exchange.h"
#include "kernels/adamw.h"
#include "kernels/all_ranks.h"
#include "kernels/copy.h"
#include "kernels/gradient_norm.h"
#include "kernels/loss_scale.h"
#include "kernels/matrix_muon.h"
#include "kernels/rowwise_rmsprop.h"

namespace neurogen {
namespace {

std::int64_t elements_of(const ParameterSpec& p) { return static_cast<std::int64_t>(size_of(DType::u8, p.shape)); }

double bytes_of(const Assembly& s, const std::vector<TensorId>& tensors) {
  double bytes = 0;
  for (const TensorId id : tensors) bytes += s.graph.bytes(id);
  return bytes;
}

bool is_updated_here(const Parameter& p) { return p.rule != UpdateRule::adafactor && p.rule != UpdateRule::none; }

// The sums of squares of some parameters' gradients. With `shared_out`, each is that of one rank alone, and 0 on the others.
struct Squares {
  struct Part {
    TensorId gradient, count;
    int owner;
  };
  std::vector<Part> parts;
  std::vector<TensorId> reads, first_reads;  // on any rank, and on the first, which has most
  std::int64_t count = 0;                    // of partial sums
  bool shared_out = false;

  Squares(const Assembly& s, const std::vector<Parameter>& parameters) {
    for (const Parameter& p : parameters) {
      parts.push_back({p.gradient, p.touched.count, std::max(p.owner, 0)});
      shared_out |= s.several_ranks() && p.owner >= 0;
      if (p.owner <= 0) first_reads.push_back(p.gradient);
      reads.insert(reads.end(), {p.gradient, p.touched.count});
      count += norm_partials(static_cast<std::int64_t>(size_of(DType::u8, s.graph.tensors()[p.gradient.index].shape)));
    }
  }

  // `none`: an i32 zero, if they are shared out.
  template <typename Device>
  void run(Device& device, const Bindings& at, const TensorView& partials, const TensorView& none = {}) const {
    std::int64_t begin = 0;
    in_lots<SumOfSquares::Of>(
        parts,
        [&](const Part& part) {
          return SumOfSquares::Of{at[part.gradient], shared_out && part.owner != rank_of(device) ? none : at[part.count]};
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
  std::vector<TensorId> reads = {control};
  if (squares.shared_out) {
    const TensorId none = s.graph.transient("norm.none", DType::i32, {1});
    s.graph.operation("norm.squares", squares.reads, {partials, none},
                      [=](auto& device, const Bindings& at) {
                        clear(device, at[none]);
                        squares.run(device, at, at[partials], at[none]);
                      },
                      {0, bytes_of(s, squares.first_reads)});
    sum_total(s, "norm.squares", partials);
  } else {
    reads.insert(reads.begin(), squares.reads.begin(), squares.reads.end());
  }
  s.graph.operation("norm", reads, {partials, norm, host}, [=](auto& device, const Bindings& at) {
    if (!squares.shared_out) squares.run(device, at, at[partials]);
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
  int owner;
};

// The parameters under one rule, which are updated in one operation.
struct Updates {
  std::vector<Update> list;
  std::vector<TensorId> reads, writes;
  void add(const Parameter& p) {
    list.push_back({p.gradient, p.value, p.m, p.v, p.low, p.m_scale, p.v_scale, p.decay, p.draws, p.owner});
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

bool is_matrix_under_muon(const Parameter& p) { return p.rule == UpdateRule::muon && p.shape.size() == 2; }

// Matrices under Muon, those of one shape together.
std::vector<ParameterId> sorted_matrices(const std::vector<Parameter>& parameters) {
  std::vector<ParameterId> matrices;
  for (ParameterId id = 0; id < parameters.size(); ++id)
    if (is_matrix_under_muon(parameters[id])) matrices.push_back(id);
  std::stable_sort(matrices.begin(), matrices.end(),
                   [&](ParameterId a, ParameterId b) { return parameters[a].shape < parameters[b].shape; });
  return matrices;
}

// Muon of whole matrices: those of one shape together, as many at a time as the schedule has room for, each on its owner.
void update_matrices(Assembly& s, TensorId norm) {
  const std::vector<ParameterId> matrices = sorted_matrices(s.model.parameters);
  const auto matrix = [&](std::size_t i) -> const Parameter& { return s.model.parameters[matrices[i]]; };
  const TensorId control = s.control;
  const DType type = s.options.target.gpu ? s.compute : s.real;
  const auto ranks = static_cast<std::size_t>(s.model.options.ranks);
  std::vector<Share> updated;
  for (std::size_t begin = 0, end; begin < matrices.size(); begin = end) {
    const Shape& shape = matrix(begin).shape;
    const std::int64_t rows = shape[0], columns = shape[1], side = std::min(rows, columns);
    const Bytes each = 2 * (size_of(type, {rows, columns}) + size_of(type, {side, side}));
    const Bytes most = std::clamp<Bytes>(s.options.schedule.tile_bytes / each, 1, kMostSeveral) * ranks;
    Updates lot{{}, {control, norm}, {}};
    for (end = begin; end < matrices.size() && end - begin < most && matrix(end).shape == shape; ++end) {
      lot.add(matrix(end));
      updated.push_back({s.operand(matrices[end]), matrix(end).owner});
    }
    const std::string name = "update." + matrix(begin).name;
    const auto count = static_cast<std::int64_t>((lot.list.size() + ranks - 1) / ranks);  // the most that one rank has
    const TensorId x = s.graph.transient(name + ".x", type, {count, rows, columns}),
                   next = s.graph.transient(name + ".next", type, {count, rows, columns}),
                   gram = s.graph.transient(name + ".gram", type, {count, side, side}),
                   square = s.graph.transient(name + ".square", type, {count, side, side}),
                   sums = s.graph.transient(name + ".sums", DType::f64, {count, matrix_muon_sums(rows * columns)});
    const std::vector<TensorId> scratch = {x, next, gram, square, sums};
    const double share = static_cast<double>(count) / static_cast<double>(lot.list.size()),
                 of_share = share * (bytes_of(s, lot.reads) + bytes_of(s, lot.writes));
    lot.writes.insert(lot.writes.end(), scratch.begin(), scratch.end());
    const auto products = static_cast<double>(count * kMuonSteps), m = static_cast<double>(side),
               n = static_cast<double>(std::max(rows, columns));
    s.graph.operation(name, lot.reads, lot.writes,
                      [=, list = lot.list](auto& device, const Bindings& at) {
                        MatrixMuon all{at[control], at[norm], {}, at[x], at[next], at[gram], at[square], at[sums]};
                        for (const Update& u : list)
                          if (u.owner == rank_of(device)) all.updates.add({at[u.gradient], at[u.value], at[u.m], 0, at[u.low]});
                        if (all.updates.begin() != all.updates.end()) matrix_muon(device, all);
                      },
                      {2 * products * m * m * (2 * n + m), of_share + bytes_of(s, scratch)});
  }
  if (s.several_ranks() && !updated.empty()) end_exchange(s, begin_broadcast(s, "update", updated, Ends::at_once));
}

// One rank after another takes a matrix.
void share_out_matrices(Assembly& s) {
  int taken = 0;
  for (const ParameterId id : sorted_matrices(s.model.parameters))
    s.model.parameters[id].owner = taken++ % static_cast<int>(s.model.options.ranks);
}

}  // namespace

void declare_moments(Assembly& s) {
  share_out_matrices(s);
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

// The sums over ranks of gradients, on their owners or on all, but those of tables, which are of all ranks' rows. All at once,
// behind the backward pass: beside it they would take multiprocessors from kernels that fill the GPU, and cost more time than they
// hide.
void sum_gradients(Assembly& s, const std::string& name, const std::vector<Parameter>& parameters) {
  if (!s.several_ranks()) return;
  std::vector<TensorId> of_all;
  std::vector<Share> owned;
  for (const Parameter& p : parameters) {
    if (p.owner >= 0) owned.push_back({p.gradient, p.owner});
    else if (p.rule != UpdateRule::rowwise_rmsprop) of_all.push_back(p.gradient);
  }
  std::vector<Exchange> sums;
  if (!owned.empty()) sums.push_back(begin_reduce(s, name, owned, Ends::at_once));
  if (!of_all.empty()) sums.push_back(begin_sum(s, name, of_all, Ends::at_once));
  for (const Exchange& sum : sums) end_exchange(s, sum);
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
  std::int64_t scratch_elements = 0;
  for (const Parameter& p : parameters) {
    if (is_matrix_under_muon(p)) continue;
    if (p.rule == UpdateRule::muon) {
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
  update_matrices(s, norm);
  add_adamw(s, "update", norm, rest);
}

}  // namespace neurogen
