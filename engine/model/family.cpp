#include "engine/model/family.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "arena/error.h"
#include "engine/files/file_io.h"
#include "engine/files/json.h"
#include "engine/files/one_line.h"

namespace neurogen {
namespace {

constexpr int kLevels = 16;                // of nesting, more than any family's files have
constexpr std::size_t kLongestEcho = 100;  // bytes

std::vector<Family>& families() {
  // Never destroyed: the program's heap ends before static objects do.
  static std::vector<Family>& list = *new std::vector<Family>(built_in_families());
  return list;
}

// Empty if the file names none, or is not JSON at all: then the first family says what is wrong with it.
std::string family_in(std::string_view json, const std::string& where) {
  nlohmann::json parsed;
  try {
    parsed = parse_json(json, kLevels, where);
  } catch (const Error&) {
    return "";
  }
  if (!parsed.is_object() || !parsed.contains("family")) return "";
  return parsed["family"].is_string() ? parsed["family"].get<std::string>() : parsed["family"].dump();
}

}  // namespace

void add_family(Family family) { families().push_back(std::move(family)); }

ArchitecturePtr parse_architecture(std::string_view json, const std::string& where) {
  const std::string name = family_in(json, where);
  if (name.empty()) return families().front().parse(json, where);
  std::vector<std::string> names;
  for (const Family& family : families()) {
    if (family.name == name) return family.parse(json, where);
    names.push_back(family.name);
  }
  throw Error(fmt::format("{}: family is \"{}\": use {}", where, one_line(name, kLongestEcho), fmt::join(names, " or ")));
}

ArchitecturePtr read_architecture(const std::string& preset_or_file) {
  for (const Family& family : families()) {
    for (const Preset& preset : family.presets) {
      if (preset.name == preset_or_file) return family.parse(preset.json, preset.name);
    }
  }
  std::error_code unknown;
  if (preset_or_file.find_first_of("./") == std::string::npos && !std::filesystem::exists(preset_or_file, unknown)) {
    throw Error({Field("architecture"), fmt::format(" is \"{}\": use {} or an architecture file FILE.json", preset_or_file,
                                                    fmt::join(preset_names(), ", "))});
  }
  return parse_architecture(MappedFile(preset_or_file).text(), preset_or_file);
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Family& family : families()) {
    for (const Preset& preset : family.presets) names.push_back(preset.name);
  }
  return names;
}

std::vector<ArchitecturePtr> smaller_presets(const Architecture& architecture) {
  std::vector<ArchitecturePtr> list;
  for (const Family& family : families()) {
    if (family.name != architecture.family()) continue;
    for (const Preset& preset : family.presets) {
      ArchitecturePtr other = family.parse(preset.json, preset.name);
      if (other->weights() < architecture.weights()) list.push_back(std::move(other));
    }
  }
  return list;
}

}  // namespace neurogen
