// Weights of our own files, to be written in another format.
#pragma once
#include <optional>

#include "engine/files/checkpoint.h"
#include "engine/files/safetensors.h"
#include "engine/model/pretrained.h"

namespace neurogen {

class SavedWeights final : public WeightSource {
 public:
  // A checkpoint or a safetensors file. Throws Error that names it unless it has every parameter of the architecture in its shape,
  // all finite.
  SavedWeights(const Architecture& architecture, std::string path);

  const std::string& path() const override { return path_; }
  void read(const std::string& parameter, std::int64_t begin, std::span<float> to) const override;

 private:
  const FileTensor* find(const std::string& name) const;

  std::string path_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<Safetensors> safetensors_;
};

}  // namespace neurogen
