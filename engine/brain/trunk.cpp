#include "engine/brain/trunk.h"

#include <algorithm>
#include <cmath>

#include "engine/brain/wiring.h"
#include "kernels/base/random.h"

namespace neurogen {
namespace {

constexpr std::int64_t kMostTiles = 16;  // per module and section
// Parameter i draws its first values from random stream i, module m its wiring from kWiringStream + m.
constexpr std::uint64_t kWiringStream = 1000;

// log(tau - 1), tau log-uniform between the module's time constants, at least 1.05 tokens.
FirstValue first_retain(TimeConstants constants) {
  const double low = std::log(constants.shortest), high = std::log(constants.longest);
  return [=](std::uint64_t seed, std::uint64_t stream, std::uint64_t i) {
    return std::log(std::max(std::exp(low + uniform(seed, stream, i) * (high - low)), 1.05) - 1);
  };
}

// 1 for the tap of now, 0 for that of one token ago: each neuron hears its sum without delay.
FirstValue first_taps(std::int64_t neurons) {
  return [=](std::uint64_t, std::uint64_t, std::uint64_t i) { return i < static_cast<std::uint64_t>(neurons) ? 1.0 : 0.0; };
}

}  // namespace

BrainTrunk::BrainTrunk(const BrainShape& shape, Assembly& assembly)
    : s_(assembly), shape_(shape), embedding_(assembly, shape.embedding, shape.pairs) {}

void BrainTrunk::declare_parameters() {
  embedding_.declare_parameters();
  for (const ModuleIndex m : all_modules()) {
    const Module& module = shape_.modules[m];
    const std::string name = name_of(m);
    const double deviation = 1 / std::sqrt(static_cast<double>(module.reach()));
    ModuleIds& ids = ids_[m];
    ids.synapses = s_.parameter({name + ".synapses",
                                 {module.groups(), module.reach(), kGroup * module.roles()},
                                 UpdateRule::adamw_decay,
                                 normals(deviation),
                                 true});
    ids.taps = s_.parameter({name + ".taps", {2, module.roles(), module.outputs}, UpdateRule::adamw, first_taps(module.neurons)});
    ids.bias = s_.parameter({name + ".bias", {module.roles(), module.outputs}, UpdateRule::adamw, constant(0)});
    ids.gain = s_.parameter({name + ".gain", {module.outputs}, UpdateRule::adamw, constant(1)});
    if (m != kHippocampus)
      ids.retain = s_.parameter({name + ".retain", {module.outputs}, UpdateRule::adamw, first_retain(time_constants_of(m))});
  }
  gate_bias_ = s_.parameter({"prefrontal.gate_bias", {shape_.modules[kBasalGanglia].outputs}, UpdateRule::adamw, constant(1)});
}

void BrainTrunk::declare_fixed() {
  for (const ModuleIndex m : all_modules()) {
    const Module module = shape_.modules[m];
    const auto deal = [=](std::uint64_t seed) { return deal_wiring(module, seed, kWiringStream + static_cast<std::uint64_t>(m)); };
    wiring_[m] =
        s_.fixed({std::string("wiring.") + name_of(m), {module.groups(), module.blocks_per_group()}, module.blocks(), deal, {}});
  }
}

void BrainTrunk::declare_derived() {
  for (const ModuleIndex m : all_modules()) {
    const Module& module = shape_.modules[m];
    const std::string name = name_of(m);
    reader_start_[m] = s_.derived(name + ".reader_start", DType::i32, {module.blocks() + 1});
    readers_[m] = s_.derived(name + ".readers", DType::i32, {module.groups() * module.blocks_per_group()});
  }
}

void BrainTrunk::derive() {
  for (const ModuleIndex m : all_modules()) {
    const TensorId wiring = wiring_[m], start = reader_start_[m], readers = readers_[m];
    if (!readers) continue;
    s_.graph.operation(std::string("derive.") + name_of(m) + ".readers", {wiring}, {start, readers},
                       [=](auto& device, const Bindings& at) {
                         synapses_readers(device, {at[wiring], at[start], at[readers]});
                       });
  }
}

BrainTrunk::ModuleParameters BrainTrunk::parameters(ModuleIndex module) const {
  const ModuleIds& ids = ids_[module];
  return {s_.value(ids.synapses),
          s_.value(ids.taps),
          s_.value(ids.bias),
          s_.value(ids.gain),
          module == kHippocampus ? TensorId{} : s_.value(ids.retain),
          s_.operand(ids.synapses)};
}

// Each tile has an even number of groups, since a head of the hippocampus is two groups wide. There are at most kMostTiles tiles:
// more would only lengthen the list of operations.
std::vector<Tile> BrainTrunk::tiles(ModuleIndex index, Section section) const {
  const Module& module = shape_.modules[index];
  const Bytes group = size_of(type_of_currents(index), {section.rows, kGroup * module.roles()});
  const auto fit = static_cast<std::int64_t>(s_.options.schedule.tile_bytes / group) / 2 * 2;
  const std::int64_t least = (module.groups() + 2 * kMostTiles - 1) / (2 * kMostTiles) * 2;
  const std::int64_t size = std::clamp<std::int64_t>(fit, least, module.groups() + 1);
  std::vector<Tile> list;
  for (std::int64_t g = 0; g < module.groups(); g += size) list.push_back({g, std::min(size, module.groups() - g)});
  return list;
}

// Half of the scores are above the diagonal and are not computed.
Cost BrainTrunk::attention_cost(Section section, Tile tile, const Module& module, double products) const {
  const auto rows = static_cast<double>(section.rows), outputs = static_cast<double>(tile.outputs());
  return {products * rows * static_cast<double>(s_.options.window) * outputs,
          s_.element_bytes * rows * outputs * static_cast<double>(module.roles() + (products > 2 ? module.roles() + 1 : 1))};
}

BrainTrunk::Companions BrainTrunk::companions(ModuleIndex module, const Activations& a) const {
  const int residual = residual_of(module);
  const bool gated = module == kPrefrontal;
  return {residual < 0 ? TensorId{} : a.output[residual], gated ? a.output[kBasalGanglia] : TensorId{},
          gated ? s_.value(gate_bias_) : TensorId{}};
}

std::vector<TensorId> BrainTrunk::source_ids(ModuleIndex module, const Activations& a) const {
  std::vector<TensorId> ids;
  for (int source : sources_of(module)) ids.push_back(a.of(source));
  return ids;
}

// The hippocampus' currents have the compute type, in which attention multiplies them anyway, except with single tokens.
DType BrainTrunk::type_of_currents(ModuleIndex module) const { return module == kHippocampus && ring_ == 0 ? s_.compute : s_.real; }

}  // namespace neurogen
