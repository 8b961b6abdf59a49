#include "tools/neurogen-engine/trained.h"

#include <fmt/format.h>

#include "arena/error.h"
#include "engine/files/safetensors.h"

namespace neurogen {

void adopt_weights(Settings& settings, const std::string& weights, const Tokenizer* tokenizer) {
  const Safetensors file(weights);
  const auto saved = [&](const char* key) {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string() : found->second;
  };
  if (settings.architecture == "auto") {
    settings.architecture_json = saved("architecture");
    if (settings.architecture_json.empty()) {
      throw Error(weights + ": does not say which architecture its weights are of: name it with --arch");
    }
  }
  const std::string trained_with = saved("tokenizer");
  if (tokenizer && !trained_with.empty() && trained_with != fmt::format("{:016x}", tokenizer->hash())) {
    throw Error(weights + ": was trained with another tokenizer: name that one with --tokenizer");
  }
}

}  // namespace neurogen
