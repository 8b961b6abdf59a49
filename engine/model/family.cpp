#include "engine/model/family.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "arena/error.h"
#include "engine/files/file_io.h"
#include "engine/files/json.h"
#include "engine/files/one_line.h"
#include "engine/model/pretrained.h"

namespace neurogen {
namespace {

constexpr int kLevels = 16;                // of nesting, more than any family's files have
constexpr std::size_t kLongestEcho = 100;  // bytes

std::vector<Family>& list_of_families() {
  // Never destroyed: the program's heap ends before static objects do.
  static std::vector<Family>& list = *new std::vector<Family>(built_in_families());
  return list;
}

// A discarded value if it is no JSON object: then the first family says what is wrong with it.
nlohmann::json object_in(std::string_view json, const std::string& where) {
  try {
    return parse_json(json, kLevels, where);
  } catch (const Error&) {
    return nlohmann::json::value_t::discarded;
  }
}

}  // namespace

void add_family(Family family) { list_of_families().push_back(std::move(family)); }

const std::vector<Family>& families() { return list_of_families(); }

ArchitecturePtr parse_architecture(std::string_view json, const std::string& where) {
  const nlohmann::json object = object_in(json, where);
  if (!object.is_object() || !object.contains("family")) {
    for (const Family& family : families())
      if (family.interchange && object.is_object() && object.contains("model_type"))
        return family.interchange->parse_config(json, where);
    return families().front().parse(json, where);
  }
  const std::string name = object["family"].is_string() ? object["family"].get<std::string>() : object["family"].dump();
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

void require_same(const Architecture& held, const std::string& holder, const Architecture& asked) {
  const auto numbers = [](const Architecture& a) { return nlohmann::ordered_json::parse(a.json()).flatten(); };
  const nlohmann::ordered_json then = numbers(held), now = numbers(asked);
  for (const auto& [key, value] : then.items()) {
    const nlohmann::ordered_json other = now.value(key, nlohmann::ordered_json());
    if (key == "/name" || other == value) continue;
    std::string field = key.substr(1);
    std::replace(field.begin(), field.end(), '/', '.');
    throw Error({fmt::format("{} holds the model {} with {} {}, requested is {} with {}: use the ", holder, held.name(), field,
                             value.dump(), asked.name(), other.dump()),
                 Field("architecture"), " that it was made with"});
  }
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
