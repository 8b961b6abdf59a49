#include "engine/run/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "arena/error.h"
#include "engine/files/checkpoint_directory.h"
#include "engine/files/safetensors.h"
#include "engine/model/family.h"
#include "engine/model/initialize.h"
#include "engine/model/pretrained.h"
#include "engine/run/base.h"
#include "engine/run/process.h"
#include "engine/run/restore.h"

namespace neurogen {
namespace {

// What reading a tokenizer may take at once: the JSON of 150,000 pieces takes 100 MB, of which 25 are kept.
constexpr Bytes kTokenizerHeap = 512'000'000;

// Empty if the key is missing.
std::string metadata(const Safetensors& file, const char* key) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() ? std::string() : found->second;
}

void adopt_pretrained(Settings& settings, const std::string& path) {
  settings.architecture_json = open_pretrained(path)->architecture()->json();
  settings.saved_optimizer = Optimizer::adamw;  // Muon is for training from scratch
}

void adopt_document_end(Settings& settings, const Safetensors& file, const std::string& path) {
  const std::string text = metadata(file, "document_end");
  if (text.empty()) return;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, settings.saved_document_end);
  if (error == std::errc{} && stop == end) return;
  throw Error(fmt::format("{}: its document_end is \"{}\", not a number: export it again", path, text));
}

void adopt_safetensors(Settings& settings, const std::string& weights, const Tokenizer* tokenizer) {
  const Safetensors file(weights);
  adopt_document_end(settings, file, weights);
  if (settings.architecture == "auto") {
    settings.architecture_json = metadata(file, "architecture");
    if (settings.architecture_json.empty()) {
      throw Error({weights + ": does not name the architecture of its weights: name it with ", Field("architecture")});
    }
  }
  const std::string trained_with = metadata(file, "tokenizer");
  if (tokenizer && !trained_with.empty() && trained_with != fmt::format("{:016x}", tokenizer->hash())) {
    throw Error({weights + ": was trained with another tokenizer: name that one with ", Field("tokenizer")});
  }
}

}  // namespace

void adopt_checkpoint(Settings& settings, const Checkpoint& from) {
  const Manifest& saved = from.manifest();
  settings.architecture_json = saved.architecture;
  settings.saved_compute = saved.options.compute;
  settings.saved_decoder = saved.options.decoder_storage;
  settings.saved_document_end = saved.options.document_end;
  settings.saved_optimizer = static_cast<Optimizer>(saved.options.optimizer);
  settings.saved_int8_logits = saved.options.int8_logits;
  if (const SavedAdapters& adapters = saved.adapters; adapters.rank > 0 && settings.lora == 0) {
    settings.lora = adapters.rank;
    settings.lora_alpha = adapters.alpha;
    settings.lora_targets = adapters.targets;
  }
  settings.saved_narrow_weights = saved.options.narrow_weights;
  settings.saved_narrow_moments = saved.options.narrow_moments;
  settings.saved_early_updates = saved.options.early_updates;
}

void adopt_weights(Settings& settings, const std::string& weights) {
  if (is_pretrained(weights)) {
    adopt_pretrained(settings, weights);
  } else if (is_checkpoint(weights)) {
    const Manifest manifest = Checkpoint(weights).manifest();
    settings.architecture_json = manifest.architecture;
    settings.saved_document_end = manifest.options.document_end;
  } else {
    const Safetensors file(weights);
    settings.architecture_json = metadata(file, "architecture");
    adopt_document_end(settings, file, weights);
  }
}

void check_architecture(const Checkpoint& from, const Architecture& asked) {
  require_same(*parse_architecture(from.manifest().architecture, from.path() + ": its architecture"), from.path(), asked);
}

void check_architecture(const std::string& weights, const Architecture& asked) {
  if (is_pretrained(weights)) require_same(*open_pretrained(weights)->architecture(), weights, asked);
  else if (is_checkpoint(weights)) check_architecture(Checkpoint(weights), asked);
}

void check_tokenizer(const Checkpoint& from, const Tokenizer* tokenizer) {
  const std::uint64_t saved = from.manifest().tokenizer;
  if (!tokenizer || !saved || tokenizer->hash() == saved) return;
  throw Error({fmt::format("{} was trained with another tokenizer (XXH3 {:016x}, this one's is {:016x}): name that one with ",
                           from.path(), saved, tokenizer->hash()),
               Field("tokenizer")});
}

std::unique_ptr<Tokenizer> named_tokenizer(const std::string& path) {
  const HeapCapLifted reading(kTokenizerHeap);
  return read_tokenizer(path);
}

std::unique_ptr<Tokenizer> carried_tokenizer(const Checkpoint& from) {
  const HeapCapLifted reading(kTokenizerHeap);
  const std::string& model = from.manifest().tokenizer_model;
  return model.empty() ? nullptr : tokenizer_of(model, from.path() + ": its tokenizer");
}

std::unique_ptr<Tokenizer> carried_tokenizer(const std::string& file) {
  const HeapCapLifted reading(kTokenizerHeap);
  if (is_pretrained(file)) return open_pretrained(file)->has_tokenizer() ? read_tokenizer(file) : nullptr;
  if (is_checkpoint(file)) return carried_tokenizer(Checkpoint(file));
  const Safetensors weights(file);
  const FileTensor* model = weights.find(kTokenizerTensor);
  if (!model) return nullptr;
  if (model->dtype != DType::u8) throw Error(fmt::format("{}: {} is not U8: the file is damaged", file, kTokenizerTensor));
  const std::string_view bytes(reinterpret_cast<const char*>(model->data.data()), model->data.size());
  return tokenizer_of(std::string(bytes), file + ": its tokenizer");
}

Weights::Weights(const WeightSettings& files, Settings& settings, const std::string& tokenizer) : init_(files.init) {
  if (!files.checkpoint.empty()) checkpoint_.emplace(checkpoint_file(files.checkpoint));
  else if (!is_pretrained(init_) && is_checkpoint(init_)) checkpoint_.emplace(std::exchange(init_, {}));
  if (!tokenizer.empty()) tokenizer_ = named_tokenizer(tokenizer);
  else tokenizer_ = checkpoint_ ? carried_tokenizer(*checkpoint_) : carried_tokenizer(init_);
  if (!checkpoint_) {
    if (is_pretrained(init_)) adopt_pretrained(settings, init_);
    else adopt_safetensors(settings, init_, tokenizer_.get());
    return;
  }
  adopt_checkpoint(settings, *checkpoint_);
  check_tokenizer(*checkpoint_, tokenizer_.get());
}

bool Weights::load(Session& session) const {
  if (!checkpoint_) {
    initialize_from(session.model, session.program, init_);
    return false;
  }
  check_architecture(*checkpoint_, *session.model.architecture);
  if (session.model.options.lora.rank > 0) load_base(session, checkpoint_->manifest().adapters, init_);
  checkpoint_->verify(weight_names(session.model));
  restore(session, *checkpoint_);
  return conversion(*checkpoint_, session.arena.plan()) == Conversion::rounding;
}

}  // namespace neurogen
