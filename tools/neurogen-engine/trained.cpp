#include "tools/neurogen-engine/trained.h"

#include <fmt/format.h>

#include <filesystem>

#include "arena/error.h"
#include "engine/files/checkpoint_directory.h"
#include "tools/common/output.h"

namespace neurogen {

void add_weight_settings(CLI::App& app, WeightSettings& settings) {
  app.add_option(
      "--init", settings.init,
      "trained weights: a safetensors file or a checkpoint; or pretrained ones, a folder of transformers or a GGUF file");
  app.add_option("--checkpoint", settings.checkpoint, "a checkpoint, or a directory to take the newest from");
}

void require_weights(const WeightSettings& files) {
  if (files.init.empty() != files.checkpoint.empty()) return;
  std::error_code missing;
  const bool both = std::filesystem::exists(files.checkpoint, missing);  // adapters and their base
  if (both && Checkpoint(checkpoint_file(files.checkpoint)).manifest().adapters.rank > 0) return;
  throw Error("no weights: name them with either --init FILE (`train --export` writes it) or --checkpoint FILE or DIR");
}

void check_export_name(const char* flag, const std::string& file) {
  const std::string extension = std::filesystem::path(file).extension();
  if (extension.empty() || extension == ".safetensors") return;
  throw Error(fmt::format("{} {}: weights are written as safetensors: name a file that ends in .safetensors", flag, file));
}

void load(Weights& weights, Session& session) {
  if (!weights.load(session)) return;
  const Checkpoint& from = *weights.checkpoint();
  print_error("{}: the decoder, stored as {}, is rounded to {}\n", from.path(), name_of(from.manifest().options.decoder_storage),
              name_of(session.model.options.decoder_storage));
}

}  // namespace neurogen
