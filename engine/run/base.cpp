#include "engine/run/base.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "arena/error.h"
#include "engine/files/file_io.h"
#include "engine/model/initialize.h"

namespace neurogen {

std::uint64_t hash_of_base(const std::string& path) {
  std::vector<std::string> files = {path};
  std::error_code unreadable;
  if (std::filesystem::is_directory(path, unreadable)) {
    files.clear();
    for (const auto& entry : std::filesystem::directory_iterator(path))
      if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
  }
  std::uint64_t hash = 0;
  for (const std::string& file : files) {
    const MappedFile mapped(file);
    hash = XXH3_64bits_withSeed(mapped.bytes().data(), mapped.bytes().size(), hash);
  }
  return hash;
}

SavedAdapters saved_adapters(const StepOptions& options, const std::string& base) {
  const Lora& lora = options.lora;
  if (lora.rank == 0) return {};
  return {lora.rank, lora.alpha, fmt::format("{}", fmt::join(lora.targets, ",")), std::filesystem::absolute(base),
          hash_of_base(base)};
}

void load_base(Session& session, const SavedAdapters& saved, const std::string& path) {
  const std::string& base = path.empty() ? saved.base : path;
  if (hash_of_base(base) != saved.base_hash) {
    throw Error({fmt::format("{} is not the base of these adapters, which was {} (XXH3 {:016x}): name that one with ", base,
                             saved.base, saved.base_hash),
                 Field("init")});
  }
  initialize_from(session.model, session.program, base);
}

}  // namespace neurogen
