// Adapters as a folder that Hugging Face's PEFT reads: adapter_model.safetensors and adapter_config.json.
#pragma once
#include <string>

#include "engine/files/checkpoint.h"

namespace neurogen {

// Throws Error if the checkpoint holds no adapters, or of matrices that have no name in Hugging Face's layout.
void export_peft(const Checkpoint& from, const std::string& folder);

}  // namespace neurogen
