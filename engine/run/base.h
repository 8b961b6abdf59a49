// The frozen weights of a model whose adapters alone are trained: a file that is named, not copied.
#pragma once
#include <cstdint>
#include <string>

#include "engine/files/manifest.h"
#include "engine/run/session.h"

namespace neurogen {

// XXH3-64 of a file, or of a folder's *.safetensors in the order of their names.
std::uint64_t hash_of_base(const std::string& path);

// What a manifest says of a model's adapters; nothing if it has none.
SavedAdapters saved_adapters(const StepOptions& options, const std::string& base);

// Fills the frozen weights from `path`, or if it is empty from the file that was named when the adapters were saved. Throws Error
// if it is not that one.
void load_base(Session& session, const SavedAdapters& saved, const std::string& path);

}  // namespace neurogen
