// A brain's parameters in canonical order, and its persistent and derived tensors.
#include <algorithm>
#include <stdexcept>

#include "arena/error.h"
#include "engine/brain/builder.h"
#include "kernels/cast.h"
#include "kernels/loss_scale.h"

namespace neurogen {
namespace {
constexpr std::int64_t kMostTiles = 16;  // per module and section
}

std::vector<Parameter> parameters_of(const Architecture& a) {
  std::vector<Parameter> list;
  const auto put = [&](std::string name, Shape shape, UpdateRule rule) {
    list.push_back({std::move(name), std::move(shape), rule, {}, {}, {}});
  };
  put("embedding.weight", {a.vocabulary, a.embedding}, UpdateRule::rowwise_rmsprop);
  if (a.pairs > 0) put("embedding.pairs", {a.pairs, a.embedding}, UpdateRule::rowwise_rmsprop);
  put("embedding.gain", {a.embedding}, UpdateRule::adamw);
  for (int m = 0; m < kModules; ++m) {
    const Module& module = a.modules[m];
    const std::string name = name_of(static_cast<ModuleIndex>(m));
    put(name + ".synapses", {module.groups(), module.reach(), kGroup * module.roles()}, UpdateRule::adamw_decay);
    put(name + ".taps", {2, module.roles(), module.outputs}, UpdateRule::adamw);
    put(name + ".bias", {module.roles(), module.outputs}, UpdateRule::adamw);
    put(name + ".gain", {module.outputs}, UpdateRule::adamw);
    if (m != kHippocampus) put(name + ".retain", {module.outputs}, UpdateRule::adamw);
  }
  put("prefrontal.gate_bias", {a.modules[kBasalGanglia].outputs}, UpdateRule::adamw);
  put("decoder.weight", {a.vocabulary, a.modules[kBroca].outputs}, UpdateRule::adafactor);
  return list;
}

const Parameter& Brain::parameter(const std::string& name) const {
  for (const Parameter& p : parameters) {
    if (p.name == name) return p;
  }
  throw std::out_of_range("no parameter " + name);
}

Builder::Builder(Brain& brain)
    : brain_(brain),
      graph_(brain.graph),
      architecture_(brain.architecture),
      options_(brain.options),
      real_(brain.options.real()),
      compute_(brain.options.compute),
      gradient_(compute_ == DType::bf16 ? compute_ : real_),
      element_bytes_(static_cast<double>(size_of(brain.options.compute))) {}

void Builder::declare_parameters(bool training) {
  const auto persistent = [&](const std::string& name, DType type, const Shape& shape) {
    return graph_.tensor(name, type, shape, BufferKind::persistent);
  };
  const auto derived = [&](const std::string& name, DType type, const Shape& shape) {
    return graph_.tensor(name, type, shape, BufferKind::derived);
  };
  brain_.parameters = parameters_of(architecture_);
  for (Parameter& p : brain_.parameters) {
    p.value = persistent(p.name, p.rule == UpdateRule::adafactor ? options_.decoder_storage : real_, p.shape);
  }
  for (int m = 0; m < kModules; ++m) {
    const Module& module = architecture_.modules[m];
    brain_.wiring[m] = persistent("wiring." + std::string(name_of(static_cast<ModuleIndex>(m))), DType::i32,
                                  {module.groups(), module.blocks_per_group()});
  }
  if (training) {
    for (Parameter& p : brain_.parameters) {
      if (p.rule == UpdateRule::adafactor) continue;
      const bool table = p.rule == UpdateRule::rowwise_rmsprop;
      if (!table) p.m = persistent(p.name + ".m", real_, p.shape);
      p.v = persistent(p.name + ".v", real_, table ? Shape{p.shape[0]} : p.shape);
    }
    brain_.decoder_row = persistent("decoder.row", real_, {architecture_.vocabulary});
    brain_.decoder_column = persistent("decoder.column", real_, {architecture_.modules[kBroca].outputs});
    if (options_.scaled())
      brain_.loss_scale = persistent(kLossScaleName, DType::i32, {sizeof(LossScaleState) / sizeof(std::int32_t)});
    brain_.control = derived("control", DType::u8, {sizeof(StepControl)});
    for (int m = 0; m < kModules; ++m) {
      const Module& module = architecture_.modules[m];
      const std::string name = name_of(static_cast<ModuleIndex>(m));
      brain_.reader_start[m] = derived(name + ".reader_start", DType::i32, {module.blocks() + 1});
      brain_.readers[m] = derived(name + ".readers", DType::i32, {module.groups() * module.blocks_per_group()});
    }
  }
  if (options_.workspace > 0)
    brain_.workspace = derived("matmul.workspace", DType::u8, {static_cast<std::int64_t>(options_.workspace)});

  embedding_weight_ = brain_.parameter("embedding.weight").value;
  if (architecture_.pairs > 0) embedding_pairs_ = brain_.parameter("embedding.pairs").value;
  embedding_gain_ = brain_.parameter("embedding.gain").value;
  gate_bias_ = brain_.parameter("prefrontal.gate_bias").value;
  decoder_ = brain_.parameter("decoder.weight").value;
  for (int m = 0; m < kModules; ++m) {
    const std::string name = name_of(static_cast<ModuleIndex>(m));
    ModuleParameters& p = module_[m];
    p.synapses = p.low_synapses = brain_.parameter(name + ".synapses").value;
    p.taps = brain_.parameter(name + ".taps").value;
    p.bias = brain_.parameter(name + ".bias").value;
    p.gain = brain_.parameter(name + ".gain").value;
    if (m != kHippocampus) p.retain = brain_.parameter(name + ".retain").value;
    if (compute_ != real_) p.low_synapses = derived(name + ".synapses.low", compute_, brain_.parameter(name + ".synapses").shape);
  }
}

void Builder::derive() {
  graph_.begin_program("derive");
  for (int m = 0; m < kModules; ++m) {
    const std::string name = "derive." + std::string(name_of(static_cast<ModuleIndex>(m)));
    const TensorId wiring = brain_.wiring[m], start = brain_.reader_start[m], readers = brain_.readers[m];
    const TensorId synapses = module_[m].synapses, low = low_copy(synapses);
    if (readers) {
      graph_.operation(name + ".readers", {wiring}, {start, readers}, [=](auto& device, const Bindings& at) {
        synapses_readers(device, {at[wiring], at[start], at[readers]});
      });
    }
    if (low) {
      graph_.operation(name + ".synapses", {synapses}, {low},
                       [=](auto& device, const Bindings& at) { cast(device, at[synapses], at[low]); });
    }
  }
}

TensorId Builder::low_copy(TensorId parameter) const {
  for (const ModuleParameters& p : module_) {
    if (p.synapses.index == parameter.index && p.low_synapses.index != parameter.index) return p.low_synapses;
  }
  return {};
}

std::int64_t Builder::rows_per_product() const {
  const std::int64_t sequences = std::max<std::int64_t>(1, 256 / options_.window);
  return std::min(sequences, options_.batch) * options_.window;
}

// Sections begin at multiples of rows_per_product, so that no product, and no bit, depends on their number.
std::vector<Section> Builder::sections() const {
  const std::int64_t unit = rows_per_product(), units = (options_.tokens() + unit - 1) / unit;
  const std::int64_t count = std::min(options_.schedule.sections, units);
  std::vector<Section> list;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t begin = i * units / count * unit;
    const std::int64_t end = std::min((i + 1) * units / count * unit, options_.tokens());
    list.push_back({begin, end - begin});
  }
  return list;
}

// Each tile has an even number of groups, since a head of the hippocampus is two groups wide. There are at most kMostTiles tiles:
// more would only lengthen the list of operations.
std::vector<Tile> Builder::tiles(ModuleIndex index, Section section) const {
  const Module& module = architecture_.modules[index];
  const Bytes group = size_of(type_of_currents(index), {section.rows, kGroup * module.roles()});
  const auto fit = static_cast<std::int64_t>(options_.schedule.tile_bytes / group) / 2 * 2;
  const std::int64_t least = (module.groups() + 2 * kMostTiles - 1) / (2 * kMostTiles) * 2;
  const std::int64_t size = std::clamp<std::int64_t>(fit, least, module.groups() + 1);
  std::vector<Tile> list;
  for (std::int64_t g = 0; g < module.groups(); g += size) list.push_back({g, std::min(size, module.groups() - g)});
  return list;
}

TensorId Builder::scratch(const std::string& name, std::int64_t elements) {
  if (options_.threads == 0) return {};
  return graph_.transient(name + ".scratch", real_, {options_.threads, elements});
}

Cost Builder::product_cost(std::int64_t groups, std::int64_t m, std::int64_t n, std::int64_t k) const {
  const auto dm = static_cast<double>(m), dn = static_cast<double>(n), dk = static_cast<double>(k), g = static_cast<double>(groups);
  return {2 * g * dm * dn * dk, element_bytes_ * g * (dm * dk + dk * dn + dm * dn)};
}

// Half of the scores are above the diagonal and are not computed.
Cost Builder::attention_cost(Section section, Tile tile, const Module& module, double products) const {
  const auto rows = static_cast<double>(section.rows), outputs = static_cast<double>(tile.outputs());
  return {products * rows * static_cast<double>(options_.window) * outputs,
          element_bytes_ * rows * outputs * static_cast<double>(module.roles() + (products > 2 ? module.roles() + 1 : 1))};
}

Builder::Companions Builder::companions(ModuleIndex module, const Activations& a) const {
  const int residual = residual_of(module);
  const bool gated = module == kPrefrontal;
  return {residual < 0 ? TensorId{} : a.output[residual], gated ? a.output[kBasalGanglia] : TensorId{},
          gated ? gate_bias_ : TensorId{}};
}

std::vector<TensorId> Builder::source_ids(ModuleIndex module, const Activations& a) const {
  std::vector<TensorId> ids;
  for (int source : sources_of(module)) ids.push_back(a.of(source));
  return ids;
}

}  // namespace neurogen
