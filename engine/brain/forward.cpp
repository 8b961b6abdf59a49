// Forward pass from token ids to broca's outputs.
#include <algorithm>

#include "engine/brain/builder.h"
#include "engine/brain/views.h"
#include "kernels/attention.h"
#include "kernels/copy.h"
#include "kernels/cortical_columns.h"
#include "kernels/documents.h"
#include "kernels/loss_scale.h"
#include "kernels/rms_norm.h"

namespace neurogen {

void Builder::read_control() {
  const TensorId host = brain_.host_control, control = brain_.control;
  graph_.operation("control", {host}, {control}, [=](auto& device, const Bindings& at) { copy(device, at[host], at[control]); });
  const TensorId state = brain_.loss_scale;
  if (!state) return;
  graph_.operation("loss_scale.begin", {state}, {control}, [=](auto& device, const Bindings& at) {
    loss_scale_begin(device, {at[state], at[control]});
  });
}

Activations Builder::read_batch(const std::string& prefix, bool with_targets) {
  Activations a;
  const std::int64_t n = options_.tokens();
  a.ids = graph_.transient(prefix + "ids", DType::i32, {n});
  if (with_targets) a.targets = graph_.transient(prefix + "targets", DType::i32, {n});
  const TensorId host = ring_ > 0 ? brain_.host_token : brain_.host_batch;
  graph_.operation(prefix + "read_batch", {host}, {a.ids, a.targets}, [=](auto& device, const Bindings& at) {
    copy(device, at[host].rows(0, 1), at[a.ids]);
    if (a.targets) copy(device, at[host].rows(1, 1), at[a.targets]);
  });
  if (single()) return a;  // Stream resets its memory after a document's end
  a.first = graph_.transient(prefix + "first", DType::i32, {n});
  const std::int64_t window = options_.window, document_end = options_.document_end;
  graph_.operation(prefix + "documents", {a.ids}, {a.first}, [=](auto& device, const Bindings& at) {
    documents(device, {at[a.ids], window, document_end, at[a.first]});
  });
  return a;
}

void Builder::forward(Activations& a, const std::string& prefix, bool training) {
  const std::int64_t n = options_.tokens();
  for (int m = 0; m < kModules; ++m) {
    const std::string name = prefix + name_of(static_cast<ModuleIndex>(m));
    a.output[m] = graph_.transient(name + ".output", compute_, {n, architecture_.modules[m].outputs});
    a.scale[m] = graph_.transient(name + ".scale", real_, {n});
  }
  for (int m = 0; m < kModules; ++m) {
    const auto module = static_cast<ModuleIndex>(m);
    if (!training || !fused(module)) continue;
    a.carried[m] = graph_.transient(prefix + name_of(module) + ".carried", real_,
                                    {options_.batch * carries(options_.window), architecture_.modules[m].outputs});
  }
  forward_embedding(a, prefix);
  const std::vector<Section> parts = sections();
  for (std::size_t s = 0; s < parts.size(); ++s) {
    for (int m = 0; m < kModules; ++m) {
      forward_module(static_cast<ModuleIndex>(m), a, parts[s], prefix + "section" + std::to_string(s) + ".");
    }
  }
}

// The hippocampus' currents have the compute type, in which attention multiplies them anyway, except with single tokens.
DType Builder::type_of_currents(ModuleIndex module) const { return module == kHippocampus && ring_ == 0 ? compute_ : real_; }

TensorId Builder::currents(const std::string& name, ModuleIndex module, const Activations& a, Section section, Tile tile,
                           TensorId before) {
  const Module& shape = architecture_.modules[module];
  const std::int64_t rows = rows_per_product(), fan_in = shape.reach(), columns = kGroup * shape.roles(), window = options_.window;
  const TensorId currents = graph_.transient(name + ".currents", type_of_currents(module), {tile.groups, section.rows, columns});
  const TensorId panel = scratch(name + ".synapses", synapses_scratch(fan_in, rows));
  const std::vector<TensorId> sources = source_ids(module, a);
  const ModuleParameters p = module_[module];
  const TensorId wiring = brain_.wiring[module], first = a.first;
  std::vector<TensorId> reads = sources;
  reads.insert(reads.end(), {wiring, p.low_synapses, p.taps, first, p.bias});
  graph_.operation(
      name + ".synapses", reads, {currents, before, panel},
      [=](auto& device, const Bindings& at) {
        synapses_forward(device, {sources_at(at, sources, section), at[wiring].rows(tile.group, tile.groups),
                                  at[p.low_synapses].rows(tile.group, tile.groups),
                                  Taps{columns_of(taps_of(at[p.taps]), tile), rows_of(at[first], section), window},
                                  columns_of(at[p.bias], tile), at[currents], rows, at[panel], at[before]});
      },
      product_cost(tile.groups, section.rows, columns, fan_in));
  return currents;
}

void Builder::forward_module(ModuleIndex module, Activations& a, Section section, const std::string& prefix) {
  const Module& shape = architecture_.modules[module];
  const std::string name = prefix + name_of(module);
  const ModuleParameters p = module_[module];
  const std::int64_t window = options_.window;
  const TensorId first = a.first, output = a.output[module], scale = a.scale[module];
  const TensorId pre_norm = graph_.transient(name + ".pre_norm", gradient_, {section.rows, shape.outputs});
  const auto [residual, opener, gate_bias] = companions(module, a);
  const std::int64_t stripe = architecture_.stripe();
  const TensorId state = ring_ > 0 && module != kHippocampus ? remembered(name + ".state", {1, shape.outputs}) : TensorId{};
  const TensorId before = ring_ > 0 ? remembered(name + ".before", {shape.groups(), kGroup * shape.roles()}) : TensorId{};
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
      const TensorId heads = scratch(tile_name + ".attention", attention_scratch(window));
      graph_.operation(
          tile_name + ".attention", {u, first}, {pre_norm, heads},
          [=](auto& device, const Bindings& at) {
            attention_forward(device, {at[u], rows_of(at[first], section), window,
                                       at[pre_norm].columns(tile.output(), tile.outputs()), at[heads]});
          },
          attention_cost(section, tile, shape, 2));
      continue;
    }
    graph_.operation(tile_name + ".microcircuit", {u, p.retain, first, opener, gate_bias, residual}, {pre_norm, state},
                     [=](auto& device, const Bindings& at) {
                       microcircuit_forward(device, {at[u], range_of(at[p.retain], tile), rows_of(at[first], section), window,
                                                     Gate{rows_of(at[opener], section), at[gate_bias], stripe, tile.output()},
                                                     columns_of(rows_of(at[residual], section), tile), columns_of(at[state], tile),
                                                     columns_of(at[pre_norm], tile)});
                     },
                     {0, element_bytes_ * static_cast<double>(section.rows * tile.outputs() * (shape.roles() + 1))});
  }
  graph_.operation(
      name + ".norm", {pre_norm, p.gain}, {output, scale},
      [=](auto& device, const Bindings& at) {
        rms_norm_forward(device, {at[pre_norm], at[p.gain], rows_of(at[output], section), rows_of(at[scale], section)});
      },
      {0, 2 * element_bytes_ * static_cast<double>(section.rows * shape.outputs)});
}

}  // namespace neurogen
