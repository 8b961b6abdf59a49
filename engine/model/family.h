// Families of models, and architectures by name: presets and files.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "engine/model/architecture.h"

namespace neurogen {

struct Interchange;

struct Preset {
  std::string name, json;
};

struct Family {
  std::string name;  // the "family" of an architecture file
  // Throws Error that begins with `where` and names the field.
  ArchitecturePtr (*parse)(std::string_view json, const std::string& where);
  std::vector<Preset> presets;               // the largest first
  const Interchange* interchange = nullptr;  // pretrained.h; null: other programs have no such models
};

std::vector<Family> built_in_families();  // families/built_in.cpp; the first is that of files without a "family"
// Adds one more, such as a test's. Call it before anything else here.
void add_family(Family family);
const std::vector<Family>& families();  // all of them

// An architecture from JSON: a family's, or a config.json of Hugging Face's transformers. Throws Error that begins with `where`.
ArchitecturePtr parse_architecture(std::string_view json, const std::string& where);
// Reads a preset or a JSON file. Throws Error that names the file and the field.
ArchitecturePtr read_architecture(const std::string& preset_or_file);
// Throws Error that begins with `holder`, which holds the first architecture, and names a number in which the second differs. Names
// may differ.
void require_same(const Architecture& held, const std::string& holder, const Architecture& asked);
std::vector<std::string> preset_names();
// The presets of an architecture's family with fewer weights, the largest first.
std::vector<ArchitecturePtr> smaller_presets(const Architecture& architecture);

}  // namespace neurogen
