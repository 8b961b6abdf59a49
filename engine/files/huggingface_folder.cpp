#include "engine/files/huggingface_folder.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "arena/error.h"
#include "engine/files/json.h"
#include "engine/files/one_line.h"

namespace neurogen {
namespace {

constexpr std::string_view kIndex = "model.safetensors.index.json";
constexpr std::size_t kLargestIndex = 100'000'000;  // bytes
constexpr int kIndexLevels = 3;                     // of nesting, more than the index has

bool exists(const std::string& path) {
  std::error_code unknown;
  return std::filesystem::exists(path, unknown);
}

// The files that an index names: the tensors that it says each holds.
std::map<std::string, std::map<std::string, bool>> shards_of(const std::string& path) {
  const MappedFile file(path);
  const auto damaged = [&](const std::string& what) { return Error(fmt::format("{} is damaged: {}", path, what)); };
  if (file.bytes().size() > kLargestIndex) throw damaged("it is larger than 100 MB");
  const nlohmann::json index = parse_json(file.text(), kIndexLevels, path);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
    throw damaged("it has no weight_map");
  std::map<std::string, std::map<std::string, bool>> shards;
  for (const auto& [tensor, name] : index["weight_map"].items()) {
    const bool plain = name.is_string() && name.get<std::string>().find('/') == std::string::npos;
    if (!plain || !name.get<std::string>().ends_with(".safetensors"))
      throw damaged(fmt::format("{} is in {}, not in a safetensors file beside it", one_line(tensor), one_line(name.dump())));
    shards[name.get<std::string>()][tensor] = false;
  }
  return shards;
}

}  // namespace

HuggingFaceFolder::HuggingFaceFolder(const std::string& path) : path_(path) {
  while (path_.size() > 1 && path_.ends_with('/')) path_.pop_back();
  if (!exists(config_path())) throw Error(path_ + " has no config.json: name a folder that transformers saved");
  config_ = MappedFile(config_path());
  const bool whole = exists(file(kHuggingFaceWeights)), in_shards = exists(file(kIndex));
  if (whole && in_shards)
    throw Error(fmt::format("{} has {} and {}: remove the one that is out of date", path_, kHuggingFaceWeights, kIndex));
  if (!whole && !in_shards) {
    throw Error(fmt::format("{} has no {}: save the model again with transformers, as safetensors", path_, kHuggingFaceWeights));
  }
  if (whole) files_.emplace_back(file(kHuggingFaceWeights));
  else open_shards();
  for (const Safetensors& shard : files_)
    for (const FileTensor& tensor : shard.tensors()) tensors_.push_back(&tensor);
}

void HuggingFaceFolder::open_shards() {
  for (auto& [name, tensors] : shards_of(file(kIndex))) {
    const Safetensors& shard = files_.emplace_back(file(name));
    for (const FileTensor& tensor : shard.tensors()) {
      const auto known = tensors.find(tensor.name);
      if (known == tensors.end()) {
        throw Error(fmt::format("{} holds {}, which {} says is elsewhere: the folder is damaged", file(name), one_line(tensor.name),
                                kIndex));
      }
      known->second = true;
    }
    for (const auto& [tensor, found] : tensors) {
      if (!found)
        throw Error(
            fmt::format("{} has no {}, which {} says it holds: the folder is damaged", file(name), one_line(tensor), kIndex));
    }
  }
}

}  // namespace neurogen
