#include "engine/run/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "arena/error.h"
#include "engine/data/tokenizer_gguf.h"
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

void adopt_document_end(Settings& settings, const Safetensors& file) {
  const std::string text = metadata(file, "document_end");
  if (text.empty()) return;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, settings.saved_document_end);
  if (error == std::errc{} && stop == end) return;
  throw Error(fmt::format("{}: its document_end is \"{}\", not a number: export it again", file.path(), text));
}

// Reads a tokenizer with more heap for the time of reading; afterwards the heap may hold what one of its size takes.
template <typename Read>
std::unique_ptr<Tokenizer> with_heap(const Read& read) {
  std::unique_ptr<Tokenizer> tokenizer;
  {
    const HeapCapLifted reading(kTokenizerHeap);
    tokenizer = read();
  }
  if (tokenizer) raise_heap_cap(heap_cap(tokenizer->vocabulary()) - kHeapCap);
  return tokenizer;
}

std::unique_ptr<Tokenizer> tokenizer_in(const Safetensors& weights) {
  const FileTensor* model = weights.find(kTokenizerTensor);
  if (!model) return nullptr;
  if (model->dtype != DType::u8)
    throw Error(fmt::format("{}: {} is not U8: the file is damaged", weights.path(), kTokenizerTensor));
  const std::string_view bytes(reinterpret_cast<const char*>(model->data.data()), model->data.size());
  return tokenizer_of(std::string(bytes), weights.path() + ": its tokenizer");
}

std::unique_ptr<Tokenizer> tokenizer_in(const Checkpoint& from) {
  const std::string& model = from.manifest().tokenizer_model;
  return model.empty() ? nullptr : tokenizer_of(model, from.path() + ": its tokenizer");
}

std::unique_ptr<Tokenizer> tokenizer_in(const Pretrained& weights) {
  if (const Gguf* const file = weights.gguf()) return has_gguf_tokenizer(*file) ? tokenizer_of(*file) : nullptr;
  std::error_code unknown;
  return std::filesystem::exists(weights.path() + "/tokenizer.json", unknown) ? read_tokenizer(weights.path()) : nullptr;
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

void check_architecture(const Checkpoint& from, const Architecture& asked) {
  require_same(*parse_architecture(from.manifest().architecture, from.path() + ": its architecture"), from.path(), asked);
}

void check_tokenizer(const Checkpoint& from, const Tokenizer* tokenizer) {
  const std::uint64_t saved = from.manifest().tokenizer;
  if (!tokenizer || !saved || tokenizer->hash() == saved) return;
  throw Error({fmt::format("{} was trained with another tokenizer (XXH3 {:016x}, this one's is {:016x}): name that one with ",
                           from.path(), saved, tokenizer->hash()),
               Field("tokenizer")});
}

std::unique_ptr<Tokenizer> named_tokenizer(const std::string& path) {
  return with_heap([&] { return read_tokenizer(path); });
}

std::unique_ptr<Tokenizer> carried_tokenizer(const Checkpoint& from) {
  return with_heap([&] { return tokenizer_in(from); });
}

WeightFile::WeightFile(const std::string& path) : path_(path) {
  if (is_pretrained(path)) pretrained_ = open_pretrained(path);
  else if (is_checkpoint(path)) checkpoint_.emplace(path);
  else safetensors_.emplace(path);
}

void WeightFile::adopt(Settings& settings) const {
  if (pretrained_) {
    settings.architecture_json = pretrained_->architecture()->json();
    settings.saved_optimizer = Optimizer::adamw;  // Muon is for training from scratch
  } else if (checkpoint_) {
    settings.architecture_json = checkpoint_->manifest().architecture;
    settings.saved_document_end = checkpoint_->manifest().options.document_end;
  } else {
    settings.architecture_json = metadata(*safetensors_, "architecture");
    adopt_document_end(settings, *safetensors_);
  }
}

void WeightFile::check(const Architecture& asked) const {
  if (pretrained_) require_same(*pretrained_->architecture(), path_, asked);
  else if (checkpoint_) check_architecture(*checkpoint_, asked);
}

void WeightFile::check_tokenizer(const Tokenizer* tokenizer) const {
  if (checkpoint_) return neurogen::check_tokenizer(*checkpoint_, tokenizer);
  const std::string trained_with = safetensors_ ? metadata(*safetensors_, "tokenizer") : "";
  if (tokenizer && !trained_with.empty() && trained_with != fmt::format("{:016x}", tokenizer->hash())) {
    throw Error({path_ + ": was trained with another tokenizer: name that one with ", Field("tokenizer")});
  }
}

std::unique_ptr<Tokenizer> WeightFile::tokenizer() const {
  return with_heap([&] {
    return pretrained_ ? tokenizer_in(*pretrained_) : checkpoint_ ? tokenizer_in(*checkpoint_) : tokenizer_in(*safetensors_);
  });
}

void WeightFile::load(const Model& model, Program& program) const {
  if (pretrained_) initialize_from(model, program, *pretrained_);
  else if (checkpoint_) initialize_from(model, program, *checkpoint_);
  else initialize_from(model, program, *safetensors_);
}

Weights::Weights(const WeightSettings& files, Settings& settings, const std::string& tokenizer) {
  if (files.checkpoint.empty()) init_.emplace(files.init);
  else checkpoint_.emplace(checkpoint_file(files.checkpoint)), base_ = files.init;
  const Checkpoint* const from = checkpoint();
  tokenizer_ = !tokenizer.empty() ? named_tokenizer(tokenizer) : from ? carried_tokenizer(*from) : init_->tokenizer();
  if (from) adopt_checkpoint(settings, *from);
  else init_->adopt(settings);
  if (settings.architecture == "auto" && settings.architecture_json.empty())
    throw Error({files.init + ": does not name the architecture of its weights: name it with ", Field("architecture")});
  if (from) check_tokenizer(*from, tokenizer_.get());
  else init_->check_tokenizer(tokenizer_.get());
}

bool Weights::load(Session& session) {
  const Checkpoint* const from = checkpoint();
  if (!from) {
    init_->load(session.model, session.program);
    init_.reset();
    return false;
  }
  check_architecture(*from, *session.model.architecture);
  if (session.model.options.lora.rank > 0) load_base(session, from->manifest().adapters, base_);
  from->verify(weight_names(session.model));
  restore(session, *from);
  return conversion(*from, session.arena.plan()) == Conversion::rounding;
}

}  // namespace neurogen
