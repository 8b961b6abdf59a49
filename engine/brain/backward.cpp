// Backward pass, from the gradient of broca's outputs to every parameter and the embedding.
//
// Runs section by section, through the modules in reverse order. Currents and recurrent states are recomputed, a tile of column
// groups at a time; only the modules' outputs and one norm per token and module are kept.
#include <utility>

#include "engine/brain/trunk.h"
#include "engine/brain/views.h"
#include "kernels/brain/attention.h"
#include "kernels/copy.h"
#include "kernels/rms_norm.h"

namespace neurogen {

std::vector<TensorId> BrainTrunk::Gradients::listed() const {
  std::vector<TensorId> list;
  for (const ModuleIndex m : all_modules()) {
    list.insert(list.end(), {synapses[m], taps[m], bias[m], gain[m]});
    if (m != kHippocampus) list.push_back(retain[m]);
  }
  list.push_back(gate_bias);
  return list;
}

BrainTrunk::Gradients BrainTrunk::declare_gradients() {
  Gradients g;
  for (const ModuleIndex m : all_modules()) {
    const ModuleIds& ids = ids_[m];
    g.synapses[m] = s_.declare_gradient(ids.synapses);
    g.taps[m] = s_.declare_gradient(ids.taps);
    g.bias[m] = s_.declare_gradient(ids.bias);
    g.gain[m] = s_.declare_gradient(ids.gain);
    if (m != kHippocampus) g.retain[m] = s_.declare_gradient(ids.retain);
  }
  g.gate_bias = s_.declare_gradient(gate_bias_);
  return g;
}

// Clears all gradients that sections add to.
void BrainTrunk::clear_gradients(const Gradients& gradients) {
  std::vector<TensorId> list = gradients.listed();
  std::erase_if(list, [](TensorId id) { return !id; });
  s_.graph.operation("d_parameters.clear", {}, list, [=](auto& device, const Bindings& at) {
    Several<TensorView> all;
    for (TensorId id : list) all.add(at[id]);
    clear(device, all);
  });
}

void BrainTrunk::backward(TensorId d_broca) {
  const Gradients totals = declare_gradients();
  const TensorId d_embedding = s_.graph.transient("d_embedding.output", s_.gradient, {s_.options.tokens(), shape_.embedding});
  const Gradients parts_of = declare_parts(totals);
  clear_gradients(parts_of);
  const std::vector<Section> ranges = s_.sections();
  for (std::size_t s = 0; s < ranges.size(); ++s) {
    const std::string prefix = "section" + std::to_string(s) + ".d_";
    OutputGradients d{d_broca, d_embedding, {}};
    for (const ModuleIndex m : {kBroca, kPrefrontal, kBasalGanglia, kHippocampus, kWernicke, kThalamus})
      backward_module(m, trained_, ranges[s], d, parts_of, prefix);
  }
  sum_parts(parts_of, totals);
  embedding_.backward(d_embedding);
}

// Gradient of a source's outputs in this section, [rows, O] (the embedding's: in a buffer for the whole batch). The first call
// declares it.
BrainTrunk::OutputGradient BrainTrunk::output_gradient(OutputGradients& d, int source, Section section, const std::string& prefix) {
  if (source == kEmbeddingSource) return {d.embedding, std::exchange(d.embedding_begun, true)};
  TensorId& id = d.output[static_cast<std::size_t>(source)];
  const bool begun = static_cast<bool>(id);
  if (!begun) {
    id = s_.graph.transient(prefix + name_of(static_cast<ModuleIndex>(source)) + ".output", s_.gradient,
                            {section.rows, shape_.width(source)});
  }
  return {id, begun};
}

// The same for operations that can only add: clears it on the first call.
TensorId BrainTrunk::begun_gradient(OutputGradients& d, int source, Section section, const std::string& prefix) {
  const auto [id, begun] = output_gradient(d, source, section, prefix);
  if (!begun) {
    const char* const name = source == kEmbeddingSource ? "embedding" : name_of(static_cast<ModuleIndex>(source));
    s_.graph.operation(prefix + name + ".output.clear", {}, {id},
                       [=, to = id](auto& device, const Bindings& at) { clear(device, gradient_at(at, to, section)); });
  }
  return id;
}

void BrainTrunk::backward_module(ModuleIndex module, const Activations& a, Section section, OutputGradients& d, const Gradients& g,
                                 const std::string& prefix) {
  const Module& shape = shape_.modules[module];
  const std::string name = prefix + name_of(module);
  const ModuleParameters p = parameters(module);
  const std::int64_t window = s_.options.window, rows = s_.rows_per_product(), fan_in = shape.reach();
  const std::int64_t columns = kGroup * shape.roles();
  const Cost product = s_.product_cost(shape.groups(), section.rows, columns, fan_in);

  // Broca's comes from the decoder for the whole batch; the others are separate for each section.
  const bool top = module == kBroca;
  const TensorId d_out = top ? d.broca : begun_gradient(d, module, section, prefix);
  const Section d_out_rows = top ? section : Section{0, section.rows};
  const TensorId output = a.output[module], scale = a.scale[module], first = a.first;
  const TensorId dot = s_.graph.transient(name + ".dot", s_.real, {section.rows});
  s_.graph.operation(name + ".norm", {d_out, output}, {dot},
                     [=](auto& device, const Bindings& at) {
                       rms_norm_backward_dot(device, {rows_of(at[d_out], d_out_rows), rows_of(at[output], section), at[dot]});
                     },
                     {0, 2 * s_.element_bytes * static_cast<double>(section.rows * shape.outputs)});

  const auto [residual, opener, gate_bias] = companions(module, a);
  const auto [d_residual, residual_begun] = !residual ? OutputGradient{{}, true}
                                            : fused(module)
                                                ? output_gradient(d, residual_of(module), section, prefix)
                                                : OutputGradient{begun_gradient(d, residual_of(module), section, prefix), true};
  const bool gated = static_cast<bool>(opener);
  const TensorId d_gate = gated ? s_.graph.transient(name + ".gate", s_.gradient, {section.rows, shape.outputs}) : TensorId{};
  const std::int64_t stripe = shape_.stripe();
  const TensorId d_gain = g.gain[module], d_retain = g.retain[module];
  std::vector<TensorId> d_sources;
  unsigned stored = 0;  // bit k: the first operation to write d_sources[k] stores instead of adding
  for (int source : sources_of(module)) {
    const auto [id, begun] = fused(module) ? output_gradient(d, source, section, prefix)
                                           : OutputGradient{begun_gradient(d, source, section, prefix), true};
    if (!begun) stored |= 1u << d_sources.size();
    d_sources.push_back(id);
  }
  const auto through_gate = [&] {
    const TensorId d_opener = output_gradient(d, kBasalGanglia, section, prefix).id,
                   d_bias = g.gate_bias;  // no other module reads it
    const Shape windows = {section.rows / window, shape_.modules[kBasalGanglia].outputs};
    const TensorId sums = s_.options.target.gpu ? s_.graph.transient(name + ".gate.sums", s_.real, windows) : TensorId{};
    s_.graph.operation(name + ".gate", {d_gate, opener, gate_bias}, {d_opener, d_bias, sums},
                       [=](auto& device, const Bindings& at) {
                         gate_backward(device, {at[d_gate], Gate{rows_of(at[opener], section), at[gate_bias], stripe, 0}, window,
                                                at[d_opener], at[d_bias], at[sums]});
                       });
  };
  if (fused(module)) {
    backward_columns(name, module, a, section, {d_out, d_out_rows, dot, d_residual, d_gate, d_sources, !residual_begun, stored}, g);
    if (gated) through_gate();
    return;
  }
  const TensorId d_currents = s_.graph.transient(name + ".currents", s_.compute, {shape.groups(), section.rows, columns});

  const std::vector<Tile> ranges = tiles(module, section);
  for (std::size_t t = 0; t < ranges.size(); ++t) {
    const Tile tile = ranges[t];
    const std::string tile_name = name + ".tile" + std::to_string(t);
    const TensorId u = currents(tile_name, module, a, section, tile, {});
    if (module == kHippocampus) {
      const TensorId heads = s_.scratch(tile_name + ".attention", attention_scratch(window));
      TensorId q, d_mixed, notes, sums;
      if (s_.options.target.gpu) {
        q = s_.graph.transient(tile_name + ".queries", s_.compute, {section.rows, tile.outputs()});
        d_mixed = s_.graph.transient(tile_name + ".mixed", s_.compute, {section.rows, tile.outputs()});
        notes = s_.graph.transient(tile_name + ".notes", s_.real, {tile.groups, section.rows});
        const std::int64_t blocks = attention_tiles(window, s_.compute);
        sums = s_.graph.transient(tile_name + ".sums", s_.real, {section.rows / window, blocks, tile.outputs()});
      }
      s_.graph.operation(
          tile_name + ".attention", {u, first, d_out, scale, dot, p.gain}, {d_currents, d_gain, heads, q, d_mixed, notes, sums},
          [=](auto& device, const Bindings& at) {
            attention_backward(device, {at[u], rows_of(at[first], section), window,
                                        columns_of(rows_of(at[d_out], d_out_rows), tile), rows_of(at[scale], section), at[dot],
                                        range_of(at[p.gain], tile), at[d_currents].rows(tile.group, tile.groups),
                                        range_of(at[d_gain], tile), at[heads], at[q], at[d_mixed], at[notes], at[sums]});
          },
          attention_cost(section, tile, shape, 5));
      continue;
    }
    const TensorId hidden = s_.graph.transient(tile_name + ".hidden", s_.real, {tile.groups, section.rows, kGroup});
    s_.graph.operation(tile_name + ".microcircuit", {u, p.retain, first, opener, gate_bias, residual, d_out, scale, dot, p.gain},
                       {hidden, d_currents, d_retain, d_gain, d_residual, d_gate},
                       [=](auto& device, const Bindings& at) {
                         microcircuit_backward(
                             device,
                             {at[u], range_of(at[p.retain], tile), rows_of(at[first], section), window,
                              Gate{rows_of(at[opener], section), at[gate_bias], stripe, tile.output()},
                              columns_of(rows_of(at[residual], section), tile), columns_of(rows_of(at[d_out], d_out_rows), tile),
                              rows_of(at[scale], section), at[dot], range_of(at[p.gain], tile), at[hidden],
                              at[d_currents].rows(tile.group, tile.groups), range_of(at[d_retain], tile),
                              range_of(at[d_gain], tile), columns_of(at[d_residual], tile), columns_of(at[d_gate], tile)});
                       },
                       {0, s_.element_bytes * static_cast<double>(section.rows * tile.outputs() * (2 * shape.roles() + 3))});
  }
  if (gated) through_gate();

  const std::vector<TensorId> sources = source_ids(module, a);
  const TensorId wiring = wiring_[module], weight = p.low_synapses, taps = p.taps;
  const TensorId d_weight = g.synapses[module], d_taps = g.taps[module], d_bias = g.bias[module];
  const TensorId panel = s_.scratch(name + ".synapses", synapses_scratch(fan_in + columns, rows));
  const std::int64_t count = parts(module), first_product = section.begin / rows;
  std::vector<TensorId> reads = sources;
  reads.insert(reads.end(), {wiring, weight, taps, first, d_currents});
  s_.graph.operation(
      name + ".synapses", reads, {d_weight, d_taps, d_bias, panel},
      [=](auto& device, const Bindings& at) {
        synapses_backward_weights(device, {sources_at(at, sources, section), at[wiring], at[weight],
                                           Taps{taps_of(at[taps]), rows_of(at[first], section), window}, at[d_currents],
                                           at[d_weight], taps_of(at[d_taps]), at[d_bias], rows, at[panel], count, first_product});
      },
      product);

  const TensorId start = reader_start_[module], readers = readers_[module];
  const TensorId tapped = !s_.options.target.gpu
                              ? s_.scratch(name + ".sources", synapses_scratch(columns, rows))
                              : s_.graph.transient(name + ".tapped", s_.compute, {2 * shape.groups(), fan_in, columns});
  std::vector<TensorId> written = d_sources;
  written.push_back(tapped);
  s_.graph.operation(
      name + ".sources", {d_currents, weight, taps, first, start, readers}, written,
      [=](auto& device, const Bindings& at) {
        synapses_backward_sources(device, {at[d_currents], at[weight], Taps{taps_of(at[taps]), rows_of(at[first], section), window},
                                           at[start], at[readers], gradients_at(at, d_sources, section), rows, at[tapped]});
      },
      product);
}

}  // namespace neurogen
