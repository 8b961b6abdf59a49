#include "engine/model/saved_weights.h"

#include <fmt/format.h>

#include "arena/error.h"
#include "engine/model/family.h"
#include "engine/model/initialize.h"

namespace neurogen {

SavedWeights::SavedWeights(const Architecture& architecture, std::string path) : path_(std::move(path)) {
  if (is_checkpoint(path_)) checkpoint_.emplace(path_);
  else safetensors_.emplace(path_);
  // Only declared: no memory is taken.
  const Model model = build_stream(parse_architecture(architecture.json(), path_), {});
  if (checkpoint_) checkpoint_->verify(weight_names(model));
  for (const Parameter& p : model.parameters) {
    const FileTensor* tensor = find(p.name);
    if (!tensor || tensor->shape != p.shape || !is_floating(tensor->dtype))
      throw Error(fmt::format("{} has no {} {}: use a file with all of the model's weights", path_, p.name, to_string(p.shape)));
    require_finite(*tensor, DType::f32, path_);
  }
}

const FileTensor* SavedWeights::find(const std::string& name) const {
  return checkpoint_ ? checkpoint_->find(name) : safetensors_->find(name);
}

void SavedWeights::read(const std::string& parameter, std::int64_t begin, std::span<float> to) const {
  const FileTensor& tensor = *find(parameter);
  for (float& x : to) x = static_cast<float>(tensor.real(begin++));
}

}  // namespace neurogen
