#include "engine/brain/architecture.h"

#include <flatbuffers/idl.h>
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "architecture_generated.h"
#include "arena/bytes.h"
#include "arena/error.h"
#include "embedded/architecture_fbs.h"
#include "embedded/preset_full.h"
#include "embedded/preset_small.h"
#include "embedded/preset_tiny.h"
#include "engine/brain/trunk.h"
#include "engine/files/json.h"
#include "engine/files/one_line.h"

namespace neurogen {
namespace {

constexpr std::int64_t kLargestExtent = 1'000'000'000;  // neurons, outputs or fan-in: products of two stay in 64 bits
constexpr std::int64_t kMostPairs = 250'000;            // touched_rows lists them in a GPU's shared memory
constexpr std::int64_t kLargestSoftcap = 1'000'000;
constexpr std::size_t kLargestFile = 1 << 20;
constexpr std::size_t kLongestName = 200, kLongestEcho = 100;  // bytes

struct Wiring {
  const char* name;
  std::vector<int> sources;
  int residual;
  TimeConstants time_constants;
};

const Wiring& wiring_of(ModuleIndex module) {
  static const std::array<Wiring, kModules> table = {{
      {"thalamus", {kEmbeddingSource}, -1, {1, 8}},
      {"wernicke", {kThalamus, kEmbeddingSource}, -1, {1, 64}},
      {"hippocampus", {kWernicke, kThalamus}, -1, {0, 0}},
      {"basal_ganglia", {kWernicke, kHippocampus, kThalamus}, -1, {1, 64}},
      {"prefrontal", {kWernicke, kHippocampus}, kWernicke, {4, 512}},
      {"broca", {kPrefrontal, kWernicke, kHippocampus, kThalamus, kEmbeddingSource}, kPrefrontal, {1, 16}},
  }};
  return table[module];
}

// Checks an architecture field by field; each error names the field and the nearest valid value.
class Checker {
 public:
  Checker(BrainShape& shape, const std::string& where) : a_(shape), where_(where) {}

  void check() {
    if (a_.vocabulary < 2 || a_.vocabulary > 65536) fail("vocabulary", a_.vocabulary, "use 2 to 65,536 tokens");
    width("embedding", a_.embedding, 32);
    if (a_.pairs < 0 || a_.pairs > kMostPairs)
      fail("pairs", a_.pairs, fmt::format("use up to {} rows for pairs of tokens, or 0 for none", with_commas(Bytes{kMostPairs})));
    if (a_.softcap != 0 && !(a_.softcap >= 1 && a_.softcap <= kLargestSoftcap)) {
      fail("softcap", a_.softcap,
           fmt::format("use a bound of the logits from 1 to {}, or 0 for none", with_commas(Bytes{kLargestSoftcap})));
    }
    for (const ModuleIndex m : all_modules()) extents(m);
    for (const ModuleIndex m : all_modules()) connections(m);
    const auto& prefrontal = a_.modules[kPrefrontal];
    const auto& opener = a_.modules[kBasalGanglia];
    if (prefrontal.outputs % opener.outputs != 0) {
      fail("prefrontal.outputs", prefrontal.outputs,
           fmt::format("use a multiple of basal_ganglia.outputs ({}), each of which opens a stripe of it", opener.outputs));
    }
  }

 private:
  template <typename Number>
  [[noreturn]] void fail(const std::string& field, Number value, const std::string& advice) const {
    throw Error(fmt::format("{}: {} is {}: {}", where_, field, value, advice));
  }

  void width(const std::string& field, std::int64_t value, std::int64_t multiple) const {
    if (value <= 0 || value > kLargestExtent)
      fail(field, value, fmt::format("use {} to {}", multiple, with_commas(kLargestExtent)));
    if (value % multiple != 0) {
      const std::int64_t nearest = std::max(multiple, (value + multiple / 2) / multiple * multiple);
      fail(field, value, fmt::format("use a multiple of {}, such as {}", multiple, nearest));
    }
  }

  void extents(ModuleIndex index) const {
    const Module& module = a_.modules[index];
    const std::string name = name_of(index);
    if (module.neurons <= 0 || module.neurons > kLargestExtent) {
      fail(name + ".neurons", module.neurons, "use 1 to " + with_commas(kLargestExtent));
    }
    width(name + ".outputs", module.outputs, index == kHippocampus ? 64 : 32);
    width(name + ".fan_in", module.fan_in, 16);
    const std::int64_t fewest = index == kHippocampus ? 4 : 2;
    if (module.neurons % module.outputs != 0 || module.roles() < fewest || module.roles() > 5) {
      fail(name + ".neurons", module.neurons, fmt::format("use {} to 5 times {}.outputs ({})", fewest, name, module.outputs));
    }
  }

  void connections(ModuleIndex index) {
    Module& module = a_.modules[index];
    for (int source : sources_of(index)) module.sources += a_.width(source);
    const int residual = residual_of(index);
    if (residual >= 0 && module.outputs != a_.modules[residual].outputs) {
      fail(std::string(name_of(index)) + ".outputs", module.outputs,
           fmt::format("use {}, the width of {}, which is added to it", a_.modules[residual].outputs,
                       name_of(static_cast<ModuleIndex>(residual))));
    }
  }

  BrainShape& a_;
  const std::string& where_;
};

std::string shortened(const std::string& text) { return one_line(text, kLongestEcho); }

bool is_text(const std::string& field) { return field == "name" || field == "family"; }

// Refuses what the FlatBuffers parser accepts or reports without the field's name: fractional or quoted numbers, comments, a field
// given twice, depth. Valid files hold objects in one object, whole numbers, a number for the softcap, and strings for name and
// family.
void check_json(std::string_view text, const std::string& where) {
  using nlohmann::json;
  const auto no_architecture = [&](const std::string& what) {
    return Error(fmt::format("{}: not an architecture: {}: see schemas/presets/tiny.json for an example", where, what));
  };
  if (text.size() > kLargestFile) throw no_architecture("it is larger than 1 MiB");
  // Both parsers stop at a zero byte: it would hide what follows.
  if (text.find('\0') != text.npos) throw no_architecture("it holds a zero byte");
  std::array<std::set<std::string>, 2> seen;
  std::string outer, field;
  const auto kind = [&] { return is_text(field) ? "a string" : field == "softcap" ? "a number" : "a whole number"; };
  const auto fits = [&](const json& value) {
    return is_text(field) ? value.is_string() : field == "softcap" ? value.is_number() : value.is_number_unsigned();
  };
  const auto check = [&](int depth, json::parse_event_t event, json& value) {
    if (event == json::parse_event_t::key) {
      const std::string key = value.get<std::string>();
      field = depth == 1 ? outer = key : outer + "." + key;
      if (!seen[static_cast<std::size_t>(depth - 1)].insert(key).second) {
        throw Error(fmt::format("{}: {} is given twice: keep one", where, shortened(field)));
      }
    } else if (event == json::parse_event_t::object_start && depth == 1) {
      seen[1].clear();
    } else if (event == json::parse_event_t::array_start || (event == json::parse_event_t::object_start && depth > 1) ||
               (event == json::parse_event_t::value && !fits(value))) {
      if (field.empty()) throw no_architecture("it is not a JSON object");
      throw Error(fmt::format("{}: {} is {}: use {}", where, shortened(field),
                              event == json::parse_event_t::value ? shortened(value.dump()) : "a list or nested too deeply",
                              kind()));
    }
    return true;
  };
  try {
    const json checked = json::parse(text, check);
  } catch (const json::parse_error& error) {
    throw no_architecture(fmt::format("invalid JSON at byte {}", error.byte));
  } catch (const json::out_of_range&) {
    throw no_architecture("a number has too many digits");
  }
}

std::int64_t bounded(std::uint64_t value) { return static_cast<std::int64_t>(std::min<std::uint64_t>(value, INT64_MAX)); }

// Strips the position from an error of FlatBuffers: "architecture:3: 12: error: unknown field: cortex" -> "unknown field: cortex"
std::string complaint(const std::string& error) {
  const auto at = error.find("error: ");
  std::string text = at == std::string::npos ? error : error.substr(at + 7);
  for (char& c : text) c = c == '\n' ? ' ' : c;
  return text;
}

}  // namespace

std::int64_t BrainShape::neurons() const {
  std::int64_t sum = 0;
  for (const Module& module : modules) sum += module.neurons;
  return sum;
}

std::int64_t BrainShape::synapses() const {
  std::int64_t sum = 0;
  for (const Module& module : modules) sum += module.neurons * module.reach();
  return sum;
}

std::int64_t BrainShape::weights() const { return synapses() + vocabulary * modules[kBroca].outputs; }

const char* name_of(ModuleIndex module) { return wiring_of(module).name; }
const std::vector<int>& sources_of(ModuleIndex module) { return wiring_of(module).sources; }
int residual_of(ModuleIndex module) { return wiring_of(module).residual; }
TimeConstants time_constants_of(ModuleIndex module) { return wiring_of(module).time_constants; }

BrainShape parse_brain(std::string_view json, const std::string& where) {
  check_json(json, where);
  flatbuffers::IDLOptions options;
  options.strict_json = true;
  flatbuffers::Parser parser(options);
  if (!parser.Parse(embedded_architecture_fbs)) throw Error("the built-in schema is broken: " + parser.error_, Error::kRunTime);
  if (!parser.ParseJson(std::string(json).c_str())) {
    throw Error(fmt::format("{}: not an architecture: {}: see schemas/presets/tiny.json for the fields", where,
                            shortened(complaint(parser.error_))));
  }
  const auto* root = flatbuffers::GetRoot<schema::Architecture>(parser.builder_.GetBufferPointer());
  BrainShape a;
  a.name = one_line(root->name() ? root->name()->string_view() : std::string_view(where), kLongestName);
  a.vocabulary = bounded(root->vocabulary());
  a.embedding = bounded(root->embedding());
  a.pairs = bounded(root->pairs());
  a.softcap = root->softcap();
  const std::array<const schema::Module*, kModules> modules = {root->thalamus(),      root->wernicke(),   root->hippocampus(),
                                                               root->basal_ganglia(), root->prefrontal(), root->broca()};
  for (const ModuleIndex m : all_modules()) {
    if (!modules[m]) throw Error(fmt::format("{}: {} is missing: give its neurons, outputs and fan_in", where, name_of(m)));
    a.modules[m] = {bounded(modules[m]->neurons()), bounded(modules[m]->outputs()), bounded(modules[m]->fan_in())};
  }
  Checker(a, where).check();
  return a;
}

std::string to_json(const BrainShape& a) {
  std::string json = fmt::format("{{\"name\": {}, \"vocabulary\": {}, \"embedding\": {}, \"pairs\": {}, \"softcap\": {}",
                                 json_text(a.name), a.vocabulary, a.embedding, a.pairs, a.softcap);
  for (const ModuleIndex m : all_modules()) {
    const Module& module = a.modules[m];
    json += fmt::format(", \"{}\": {{\"neurons\": {}, \"outputs\": {}, \"fan_in\": {}}}", name_of(m), module.neurons,
                        module.outputs, module.fan_in);
  }
  return json + "}";
}

std::vector<Count> BrainArchitecture::counts() const { return {{"neurons", shape_.neurons()}, {"synapses", shape_.synapses()}}; }

std::string BrainArchitecture::json() const { return to_json(shape_); }

std::unique_ptr<Trunk> BrainArchitecture::trunk(Assembly& assembly) const { return std::make_unique<BrainTrunk>(shape_, assembly); }

ArchitecturePtr BrainArchitecture::in_proportion(std::int64_t units) const {
  std::int64_t common = shape_.embedding;  // the greatest common divisor of all widths
  for (const Module& module : shape_.modules) common = std::gcd(common, module.outputs);
  BrainShape to = shape_;
  to.embedding = shape_.embedding / common * units;
  for (const ModuleIndex m : all_modules()) {
    to.modules[m].outputs = shape_.modules[m].outputs / common * units;
    to.modules[m].neurons = to.modules[m].outputs * shape_.modules[m].roles();
  }
  to.name = fmt::format("{}-{}", shape_.name, to.neurons());
  try {
    return std::make_shared<BrainArchitecture>(parse_brain(to_json(to), to.name));  // also validates it
  } catch (const Error&) {
    return nullptr;
  }
}

Family brain_family() {
  const auto parse = [](std::string_view json, const std::string& where) -> ArchitecturePtr {
    return std::make_shared<BrainArchitecture>(parse_brain(json, where));
  };
  return {"brain", parse, {{"full", embedded_preset_full}, {"small", embedded_preset_small}, {"tiny", embedded_preset_tiny}}};
}

}  // namespace neurogen
