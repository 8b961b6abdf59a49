// Forward pass from token ids to broca's outputs.
#include "engine/brain/trunk.h"
#include "engine/brain/views.h"
#include "kernels/brain/attention.h"
#include "kernels/brain/cortical_columns.h"
#include "kernels/rms_norm.h"

namespace neurogen {

TensorId BrainTrunk::forward(const Batch& batch, const std::string& prefix, bool training) {
  Activations a;
  a.first = batch.first;
  const std::int64_t n = s_.options.tokens();
  for (const ModuleIndex m : all_modules()) {
    const std::string name = prefix + name_of(m);
    a.output[m] = s_.graph.transient(name + ".output", s_.compute, {n, shape_.modules[m].outputs});
    a.scale[m] = s_.graph.transient(name + ".scale", s_.real, {n});
  }
  for (const ModuleIndex m : all_modules()) {
    if (!training || !fused(m)) continue;
    a.carried[m] = s_.graph.transient(prefix + name_of(m) + ".carried", s_.real,
                                      {s_.options.batch * carries(s_.options.window), shape_.modules[m].outputs});
  }
  a.embedding = embedding_.forward(batch, prefix, ring_ > 0);
  const std::vector<Section> parts = s_.sections();
  for (std::size_t p = 0; p < parts.size(); ++p) {
    for (const ModuleIndex m : all_modules()) {
      forward_module(m, a, parts[p], prefix + "section" + std::to_string(p) + ".");
      if (training || ring_ > 0 || p + 1 < parts.size()) continue;
      const TensorId gate_bias = m == kBasalGanglia ? s_.value(gate_bias_) : TensorId{};
      s_.model.probes.push_back({name_of(m), s_.graph.operations().size(), a.output[m], parameters(m).retain, gate_bias});
    }
  }
  if (training) trained_ = a;
  return a.output[kBroca];
}

TensorId BrainTrunk::currents(const std::string& name, ModuleIndex module, const Activations& a, Section section, Tile tile,
                              TensorId before) {
  const Module& shape = shape_.modules[module];
  const std::int64_t rows = s_.rows_per_product(), fan_in = shape.reach(), columns = kGroup * shape.roles(),
                     window = s_.options.window;
  const TensorId currents = s_.graph.transient(name + ".currents", type_of_currents(module), {tile.groups, section.rows, columns});
  const TensorId panel = s_.scratch(name + ".synapses", synapses_scratch(fan_in, rows));
  const std::vector<TensorId> sources = source_ids(module, a);
  const ModuleParameters p = parameters(module);
  const TensorId wiring = wiring_[module], first = a.first;
  std::vector<TensorId> reads = sources;
  reads.insert(reads.end(), {wiring, p.low_synapses, p.taps, first, p.bias});
  s_.graph.operation(
      name + ".synapses", reads, {currents, before, panel},
      [=](auto& device, const Bindings& at) {
        synapses_forward(device, {sources_at(at, sources, section), at[wiring].rows(tile.group, tile.groups),
                                  at[p.low_synapses].rows(tile.group, tile.groups),
                                  Taps{columns_of(taps_of(at[p.taps]), tile), rows_of(at[first], section), window},
                                  columns_of(at[p.bias], tile), at[currents], rows, at[panel], at[before]});
      },
      s_.product_cost(tile.groups, section.rows, columns, fan_in));
  return currents;
}

void BrainTrunk::forward_module(ModuleIndex module, Activations& a, Section section, const std::string& prefix) {
  const Module& shape = shape_.modules[module];
  const std::string name = prefix + name_of(module);
  const ModuleParameters p = parameters(module);
  const std::int64_t window = s_.options.window;
  const TensorId first = a.first, output = a.output[module], scale = a.scale[module];
  const TensorId pre_norm = s_.graph.transient(name + ".pre_norm", s_.gradient, {section.rows, shape.outputs});
  const auto [residual, opener, gate_bias] = companions(module, a);
  const std::int64_t stripe = shape_.stripe();
  const TensorId state = ring_ > 0 && module != kHippocampus ? s_.state(name + ".state", s_.real, {1, shape.outputs}) : TensorId{};
  const TensorId before = ring_ > 0 ? s_.state(name + ".before", s_.real, {shape.groups(), kGroup * shape.roles()}) : TensorId{};
  if (single() && module != kHippocampus) return step_columns(name, module, a, pre_norm, state, before);
  if (fused(module)) forward_columns(name, module, a, section, pre_norm);
  const std::vector<Tile> ranges = fused(module) ? std::vector<Tile>{} : tiles(module, section);
  for (std::size_t t = 0; t < ranges.size(); ++t) {
    const Tile tile = ranges[t];
    const std::string tile_name = name + ".tile" + std::to_string(t);
    const TensorId u = currents(tile_name, module, a, section, tile, before);
    if (module == kHippocampus && ring_ > 0) {
      attend_ring(tile_name, u, pre_norm);
      continue;
    }
    if (module == kHippocampus) {
      const TensorId heads = s_.scratch(tile_name + ".attention", attention_scratch(window));
      s_.graph.operation(
          tile_name + ".attention", {u, first}, {pre_norm, heads},
          [=](auto& device, const Bindings& at) {
            attention_forward(device, {at[u], rows_of(at[first], section), window,
                                       at[pre_norm].columns(tile.output(), tile.outputs()), at[heads]});
          },
          attention_cost(section, tile, shape, 2));
      continue;
    }
    s_.graph.operation(tile_name + ".microcircuit", {u, p.retain, first, opener, gate_bias, residual}, {pre_norm, state},
                       [=](auto& device, const Bindings& at) {
                         microcircuit_forward(device, {at[u], range_of(at[p.retain], tile), rows_of(at[first], section), window,
                                                       Gate{rows_of(at[opener], section), at[gate_bias], stripe, tile.output()},
                                                       columns_of(rows_of(at[residual], section), tile),
                                                       columns_of(at[state], tile), columns_of(at[pre_norm], tile)});
                       },
                       {0, s_.element_bytes * static_cast<double>(section.rows * tile.outputs() * (shape.roles() + 1))});
  }
  s_.graph.operation(
      name + ".norm", {pre_norm, p.gain}, {output, scale},
      [=](auto& device, const Bindings& at) {
        rms_norm_forward(device, {at[pre_norm], at[p.gain], rows_of(at[output], section), rows_of(at[scale], section)});
      },
      {0, 2 * s_.element_bytes * static_cast<double>(section.rows * shape.outputs)});
}

}  // namespace neurogen
