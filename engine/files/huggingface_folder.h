// A model's folder as Hugging Face's transformers saves it: config.json, and the weights in model.safetensors, or in the files that
// model.safetensors.index.json names. Nothing in it is trusted.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "engine/files/safetensors.h"

namespace neurogen {

inline constexpr std::string_view kHuggingFaceConfig = "config.json", kHuggingFaceWeights = "model.safetensors";

class HuggingFaceFolder {
 public:
  // Maps the files and checks them as Safetensors does. Throws Error that names the file.
  explicit HuggingFaceFolder(const std::string& path);

  const std::string& path() const { return path_; }
  std::string config_path() const { return file(kHuggingFaceConfig); }
  std::string_view config() const { return config_.text(); }                  // JSON, unchecked
  const std::vector<const FileTensor*>& tensors() const { return tensors_; }  // of all files

 private:
  std::string file(std::string_view name) const { return path_ + "/" + std::string(name); }
  void open_shards();

  std::string path_;
  MappedFile config_;
  std::vector<Safetensors> files_;
  std::vector<const FileTensor*> tensors_;
};

}  // namespace neurogen
