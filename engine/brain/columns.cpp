// Synapses and microcircuit of a whole module as one operation, for bf16 on a GPU: no currents in memory, no tiles.
#include <algorithm>

#include "engine/brain/trunk.h"
#include "engine/brain/views.h"
#include "kernels/brain/cortical_columns.h"

namespace neurogen {

struct BrainTrunk::ColumnTensors {
  std::vector<TensorId> sources;
  TensorId wiring, weight, taps, bias, retain, first, opener, gate_bias, residual, carried;
  std::int64_t window, stripe;

  std::vector<TensorId> read() const {
    std::vector<TensorId> list = sources;
    list.insert(list.end(), {wiring, weight, taps, bias, retain, first, opener, gate_bias, residual});
    return list;
  }
  CorticalColumns bound(const Bindings& at, Section section) const {
    const std::int64_t windows = section.rows / window, states = carries(window);
    const TensorView kept = at[carried];
    return {sources_at(at, sources, section),
            at[wiring],
            at[weight],
            taps_of(at[taps]),
            at[bias],
            at[retain],
            rows_of(at[first], section),
            window,
            Gate{rows_of(at[opener], section), at[gate_bias], stripe, 0},
            rows_of(at[residual], section),
            kept ? kept.rows(section.begin / window * states, windows * states) : kept};
  }
};

bool BrainTrunk::fused(ModuleIndex module) const {
  return s_.options.target.gpu && s_.compute == DType::bf16 && ring_ == 0 && module != kHippocampus &&
         shape_.modules[module].reach() <= kColumnsMostFanIn;
}

bool BrainTrunk::in_taps(ModuleIndex module) const { return s_.options.target.gpu && !fused(module); }

// Partial sums, so that even a module of few groups fills a large GPU.
std::int64_t BrainTrunk::parts(ModuleIndex module) const {
  constexpr std::int64_t kBlocks = 256;
  const bool divided = fused(module) || (module == kHippocampus && s_.options.target.gpu);
  return divided ? std::clamp<std::int64_t>(kBlocks / shape_.modules[module].groups(), 1, s_.options.batch) : 1;
}

BrainTrunk::Gradients BrainTrunk::declare_parts(const Gradients& totals) {
  Gradients parts_of = totals;
  for (const ModuleIndex m : all_modules()) {
    const std::int64_t count = parts(m);
    const auto divide = [&](TensorId& id, std::int64_t into) {
      if (into == 1) return;
      const Buffer total = s_.graph.tensors()[id.index];
      Shape shape = total.shape;
      shape[0] *= into;
      id = s_.graph.transient(total.name + ".parts", total.dtype, shape);
    };
    divide(parts_of.synapses[m], in_taps(m) ? 2 * count : count);
    divide(parts_of.bias[m], count);
    if (in_taps(m)) parts_of.taps[m] = {};  // sum_parts makes it
    else divide(parts_of.taps[m], count);
    if (!fused(m)) continue;
    divide(parts_of.gain[m], count);
    divide(parts_of.retain[m], count);
  }
  return parts_of;
}

void BrainTrunk::sum_parts(const Gradients& parts_of, const Gradients& totals) {
  Gradients sums = parts_of;
  for (const ModuleIndex m : all_modules()) {
    if (!in_taps(m)) continue;
    const TensorId parts = sums.synapses[m], weight = parameters(m).synapses, taps = parameters(m).taps;
    const TensorId d_weight = sums.synapses[m] = totals.synapses[m], d_taps = sums.taps[m] = totals.taps[m];
    s_.graph.gpu_operation(
        std::string("d_") + name_of(m) + ".taps", {parts, weight, taps}, {d_weight, d_taps}, [=](auto& device, const Bindings& at) {
          synapses_backward_taps(device, {at[parts], at[weight], taps_of(at[taps]), at[d_weight], taps_of(at[d_taps])});
        });
  }
  std::vector<TensorId> from = sums.listed(), to = totals.listed();
  std::size_t count = 0;
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (from[i].index != to[i].index) from[count] = from[i], to[count++] = to[i];
  }
  from.resize(count), to.resize(count);
  if (count == 0) return;
  s_.graph.gpu_operation("d_parameters.sum", from, to, [=](auto& device, const Bindings& at) {
    Several<CorticalColumnsSum> sums;
    for (std::size_t i = 0; i < from.size(); ++i) sums.add({at[from[i]], at[to[i]]});
    cortical_columns_sum(device, sums);
  });
}

BrainTrunk::ColumnTensors BrainTrunk::column_tensors(ModuleIndex module, const Activations& a) const {
  const ModuleParameters& p = parameters(module);
  const auto [residual, opener, gate_bias] = companions(module, a);
  return {source_ids(module, a), wiring_[module],   p.low_synapses, p.taps, p.bias, p.retain, a.first, opener, gate_bias, residual,
          a.carried[module],     s_.options.window, shape_.stripe()};
}

void BrainTrunk::forward_columns(const std::string& name, ModuleIndex module, const Activations& a, Section section,
                                 TensorId pre_norm) {
  const Module& shape = shape_.modules[module];
  const ColumnTensors tensors = column_tensors(module, a);
  const Cost product = s_.product_cost(shape.groups(), section.rows, kGroup * shape.roles(), shape.reach());
  s_.graph.gpu_operation(
      name + ".columns", tensors.read(), {pre_norm, tensors.carried},
      [=](auto& device, const Bindings& at) {
        cortical_columns_forward(device, {tensors.bound(at, section), at[pre_norm]});
      },
      {product.flops, s_.element_bytes * static_cast<double>(section.rows * (shape.sources + 2 * shape.outputs))});
}

void BrainTrunk::backward_columns(const std::string& name, ModuleIndex module, const Activations& a, Section section,
                                  const ModuleGradients& d, const Gradients& g) {
  const Module& shape = shape_.modules[module];
  const ColumnTensors tensors = column_tensors(module, a);
  const std::int64_t slots = shape.groups() * shape.blocks_per_group();
  const TensorId d_selected = s_.graph.transient(name + ".selected", s_.compute, {slots, section.rows, shape.block_width()});
  const TensorId scale = a.scale[module], gain = parameters(module).gain;
  const TensorId d_weight = g.synapses[module], d_taps = g.taps[module], d_bias = g.bias[module], d_retain = g.retain[module],
                 d_gain = g.gain[module];
  const bool residual_stored = d.residual_stored;
  const std::int64_t count = parts(module), first_window = section.begin / s_.options.window;
  const Cost product = s_.product_cost(shape.groups(), section.rows, kGroup * shape.roles(), shape.reach());
  const double selected = s_.element_bytes * static_cast<double>(slots * section.rows * shape.block_width());
  std::vector<TensorId> reads = tensors.read();
  reads.insert(reads.end(), {tensors.carried, d.d_out, scale, d.dot, gain});
  s_.graph.gpu_operation(
      name + ".columns", reads, {d_selected, d_weight, d_taps, d_bias, d_retain, d_gain, d.d_residual, d.d_gate},
      [=](auto& device, const Bindings& at) {
        cortical_columns_backward(
            device, {tensors.bound(at, section), rows_of(at[d.d_out], d.d_out_rows), rows_of(at[scale], section), at[d.dot],
                     at[gain], at[d_selected], count, first_window, at[d_weight], taps_of(at[d_taps]), at[d_bias], at[d_retain],
                     at[d_gain], at[d.d_residual], at[d.d_gate], residual_stored});
      },
      {3 * product.flops, selected + s_.element_bytes * static_cast<double>(section.rows * (shape.sources + shape.outputs))});
  const TensorId start = reader_start_[module], readers = readers_[module];
  const unsigned stored = d.stored;
  s_.graph.gpu_operation(
      name + ".sources", {d_selected, start, readers}, d.d_sources,
      [=](auto& device, const Bindings& at) {
        cortical_columns_sources(device, {at[d_selected], at[start], at[readers], gradients_at(at, d.d_sources, section), stored});
      },
      {0, selected + 2 * s_.element_bytes * static_cast<double>(section.rows * shape.sources)});
}

}  // namespace neurogen
