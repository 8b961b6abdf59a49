#include "tools/neurogen-engine/trained.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "arena/error.h"
#include "engine/brain/initialize.h"
#include "engine/files/checkpoint_directory.h"
#include "engine/files/safetensors.h"
#include "engine/run/restore.h"

namespace neurogen {
namespace {

void adopt_safetensors(Settings& settings, const std::string& weights, const Tokenizer* tokenizer) {
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

}  // namespace

void add_weight_settings(CLI::App& app, WeightSettings& settings) {
  app.add_option("--init", settings.init, "the trained weights, a safetensors file or a checkpoint");
  app.add_option("--checkpoint", settings.checkpoint, "a checkpoint, or a directory of which the newest is taken");
}

void require_weights(const WeightSettings& files) {
  if (files.init.empty() != files.checkpoint.empty()) return;
  throw Error("which brain: name its weights with --init FILE (`train --export` writes them) or with --checkpoint FILE or DIR");
}

void adopt_checkpoint(Settings& settings, const Checkpoint& from) {
  const Manifest& saved = from.manifest();
  settings.architecture_json = to_json(saved.architecture);
  settings.saved_compute = saved.options.compute;
  settings.saved_decoder = saved.options.decoder_storage;
}

void check_architecture(const Checkpoint& from, const Architecture& asked) {
  const Architecture& saved = from.manifest().architecture;
  const auto numbers = [](const Architecture& a) { return nlohmann::ordered_json::parse(to_json(a)).flatten(); };
  const nlohmann::ordered_json then = numbers(saved), now = numbers(asked);
  for (const auto& [key, value] : then.items()) {
    if (key == "/name" || now[key] == value) continue;
    std::string field = key.substr(1);
    std::replace(field.begin(), field.end(), '/', '.');
    throw Error(fmt::format("{} holds the brain {} with {} {}, asked for is {} with {}: use the --arch that it was made with",
                            from.path(), saved.name, field, value.dump(), asked.name, now[key].dump()));
  }
}

void check_tokenizer(const Checkpoint& from, const Tokenizer* tokenizer) {
  const std::uint64_t saved = from.manifest().tokenizer;
  if (!tokenizer || !saved || tokenizer->hash() == saved) return;
  throw Error(fmt::format("{} was trained with another tokenizer (XXH3 {:016x}, this one's is {:016x}): name that one with "
                          "--tokenizer", from.path(), saved, tokenizer->hash()));
}

Weights::Weights(const WeightSettings& files, Settings& settings, const Tokenizer* tokenizer) : init_(files.init) {
  if (!files.checkpoint.empty()) {
    checkpoint_.emplace(checkpoint_file(files.checkpoint));
  } else if (is_checkpoint(init_)) {
    checkpoint_.emplace(init_);
  } else {
    adopt_safetensors(settings, init_, tokenizer);
    return;
  }
  adopt_checkpoint(settings, *checkpoint_);
  check_tokenizer(*checkpoint_, tokenizer);
}

void Weights::load(Session& session) const {
  if (!checkpoint_) return initialize_from(session.brain, session.program, init_);
  check_architecture(*checkpoint_, session.brain.architecture);
  checkpoint_->verify(parameters_and_wiring(session.brain.architecture));
  if (conversion(*checkpoint_, session.arena.plan()) == Conversion::rounding) {
    fmt::print(stderr, "{}: the decoder, stored as {}, is rounded to {}\n", checkpoint_->path(),
               name_of(checkpoint_->manifest().options.decoder_storage), name_of(session.brain.options.decoder_storage));
  }
  restore(session, *checkpoint_);
}

}  // namespace neurogen
