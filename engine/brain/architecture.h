// The architecture of a brain: each module's neurons, outputs and fan-in. The numbers come from a JSON file
// (schemas/architecture.fbs); the connections between modules are the same for every brain.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/family.h"

namespace neurogen {

enum ModuleIndex { kThalamus, kWernicke, kHippocampus, kBasalGanglia, kPrefrontal, kBroca, kModules };
inline constexpr int kEmbeddingSource = -1;  // a source that is not a module
inline constexpr std::array<ModuleIndex, kModules> all_modules() {
  return {kThalamus, kWernicke, kHippocampus, kBasalGanglia, kPrefrontal, kBroca};
}

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

struct BrainShape {
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

class BrainArchitecture final : public Architecture {
 public:
  // The shape must be valid, as parse_brain makes it.
  explicit BrainArchitecture(BrainShape shape) : shape_(std::move(shape)) {}
  const BrainShape& shape() const { return shape_; }

  std::string_view family() const override { return "brain"; }
  const std::string& name() const override { return shape_.name; }
  std::int64_t vocabulary() const override { return shape_.vocabulary; }
  std::int64_t features() const override { return shape_.modules[kBroca].outputs; }
  double softcap() const override { return shape_.softcap; }
  std::vector<Count> counts() const override;
  std::int64_t weights() const override { return shape_.weights(); }
  std::string json() const override;
  std::unique_ptr<Trunk> trunk(Assembly& assembly) const override;
  ArchitecturePtr in_proportion(std::int64_t units) const override;

 private:
  BrainShape shape_;
};

// Throws Error that begins with `where` and names the field.
BrainShape parse_brain(std::string_view json, const std::string& where);
std::string to_json(const BrainShape& shape);
Family brain_family();  // with presets full, small and tiny

}  // namespace neurogen
