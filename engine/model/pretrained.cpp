#include "engine/model/pretrained.h"

#include <fmt/format.h>

#include <filesystem>

#include "arena/error.h"
#include "engine/model/family.h"

namespace neurogen {

bool is_pretrained(const std::string& path) {
  std::error_code unknown;
  return std::filesystem::is_directory(path, unknown) || is_gguf(path);
}

std::unique_ptr<Pretrained> open_pretrained(const std::string& path) {
  for (const Family& family : families())
    if (family.interchange) return family.interchange->open(path);
  throw Error(path + ": no family of models reads it: use weights in safetensors");
}

const Interchange& interchange_of(const Architecture& architecture) {
  for (const Family& family : families())
    if (family.name == architecture.family() && family.interchange) return *family.interchange;
  throw Error(fmt::format("{} is a {}, which Hugging Face and llama.cpp do not know: write it as safetensors of our own",
                          architecture.name(), architecture.family()));
}

}  // namespace neurogen
