// The shape of a brain: each module's neurons, outputs and fan-in. The numbers come from a JSON file (schemas/architecture.fbs);
// the connections between modules are the same for every brain.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace neurogen {

enum ModuleIndex { kThalamus, kWernicke, kHippocampus, kBasalGanglia, kPrefrontal, kBroca, kModules };
inline constexpr int kEmbeddingSource = -1;  // a source that is not a module

struct Module {
  std::int64_t neurons = 0, outputs = 0, fan_in = 0;
  std::int64_t sources = 0;  // sum of its sources' widths

  std::int64_t roles() const { return neurons / outputs; }
  std::int64_t groups() const { return outputs / 32; }
  std::int64_t reach() const { return fan_in < sources ? fan_in : sources; }  // F: the fan-in, or all sources if there are fewer
  std::int64_t block_width() const { return reach() % 32 == 0 ? 32 : 16; }
  std::int64_t blocks_per_group() const { return reach() / block_width(); }  // K
  std::int64_t blocks() const { return sources / block_width(); }
};

struct Architecture {
  std::string name;
  std::int64_t vocabulary = 0, embedding = 0;
  std::int64_t pairs = 0;  // rows of the pair table, 0: none
  double softcap = 0;      // of the logits, 0: none
  std::array<Module, kModules> modules;

  std::int64_t width(int source) const { return source == kEmbeddingSource ? embedding : modules[source].outputs; }
  std::int64_t stripe() const { return modules[kPrefrontal].outputs / modules[kBasalGanglia].outputs; }
  std::int64_t neurons() const;
  std::int64_t synapses() const;  // synapse weights, all modules
  std::int64_t weights() const;   // synapses and decoder: the weights that multiply each token
};

const char* name_of(ModuleIndex module);                 // "basal_ganglia"
const std::vector<int>& sources_of(ModuleIndex module);  // in the order of concatenation
// The module whose output is added before the norm, or -1.
int residual_of(ModuleIndex module);
struct TimeConstants {
  double shortest, longest;  // tokens
};
TimeConstants time_constants_of(ModuleIndex module);  // not for the hippocampus, which has none

// Reads a preset ("full", "small", "tiny") or a JSON file. Throws Error that names the file and the field.
Architecture read_architecture(const std::string& preset_or_file);
// `where` begins the error message.
Architecture parse_architecture(std::string_view json, const std::string& where);
std::string to_json(const Architecture& architecture);
bool is_preset(std::string_view name);

}  // namespace neurogen
