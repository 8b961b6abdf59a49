// Loads a trained model from a file: weights in safetensors (`train --export`), a checkpoint, or pretrained ones.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "engine/data/tokenizer.h"
#include "engine/model/pretrained.h"
#include "engine/run/settings.h"

namespace neurogen {

// One of the two is set; or both, if the checkpoint holds adapters: then `init` is their base, wherever it was before.
struct WeightSettings {
  std::string init;        // a safetensors file, a checkpoint, or pretrained: a folder of transformers or a GGUF file
  std::string checkpoint;  // a checkpoint, or a directory (the newest one is used)
};

// Automatic values of --arch, --compute, --decoder-storage and --document-end become those that the checkpoint was trained with.
void adopt_checkpoint(Settings& settings, const Checkpoint& from);
// Throws Error, naming both values, if the checkpoint holds another architecture.
void check_architecture(const Checkpoint& from, const Architecture& asked);
// Throws Error, naming both hashes, if the checkpoint was trained with a tokenizer other than this one (may be null).
void check_tokenizer(const Checkpoint& from, const Tokenizer* tokenizer);
// read_tokenizer, with more heap for the time of reading.
std::unique_ptr<Tokenizer> named_tokenizer(const std::string& path);
// The tokenizer in a checkpoint, null if there is none; likewise.
std::unique_ptr<Tokenizer> carried_tokenizer(const Checkpoint& from);

// Weights of any kind to start from, opened and parsed once: a safetensors file, a checkpoint, or pretrained.
class WeightFile {
 public:
  explicit WeightFile(const std::string& path);  // Throws Error that names the file and what is wrong with it

  const std::string& path() const { return path_; }
  const Checkpoint* checkpoint() const { return checkpoint_ ? &*checkpoint_ : nullptr; }  // null: of another kind
  const Pretrained* pretrained() const { return pretrained_.get(); }                      // likewise

  // The architecture, empty if the file does not name it, and for automatic --document-end the one that they were trained with;
  // pretrained weights are trained by AdamW. Checks nothing else.
  void adopt(Settings& settings) const;
  // Throws Error, naming both values, if the file names another architecture.
  void check(const Architecture& asked) const;
  // Throws Error if they were trained with a tokenizer other than this one (may be null).
  void check_tokenizer(const Tokenizer* tokenizer) const;
  std::unique_ptr<Tokenizer> tokenizer() const;           // null if there is none; as named_tokenizer
  void load(const Model& model, Program& program) const;  // initialize_from

 private:
  std::string path_;
  std::unique_ptr<Pretrained> pretrained_;  // one of the three
  std::optional<Checkpoint> checkpoint_;
  std::optional<Safetensors> safetensors_;
};

// Weights of a model for use, not for training.
class Weights {
 public:
  // Automatic settings are taken from the file. `tokenizer`: a file; empty: the one in the weights. Throws Error if the weights do
  // not name their architecture or were trained with another tokenizer.
  Weights(const WeightSettings& files, Settings& settings, const std::string& tokenizer);

  std::unique_ptr<Tokenizer> take_tokenizer() { return std::move(tokenizer_); }  // leaves none
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }                // null: none given and none in the weights
  // The checkpoint, for the session to map; null if the weights are of another kind.
  const Checkpoint* checkpoint() const { return checkpoint_ ? &*checkpoint_ : init_ ? init_->checkpoint() : nullptr; }
  const WeightFile& init() const { return *init_; }  // if it is what the settings name alone
  // Loads the weights, once; from a checkpoint only these, with verified checksums. Returns whether they were rounded.
  bool load(Session& session);

 private:
  std::optional<Checkpoint> checkpoint_;
  std::optional<WeightFile> init_;  // without a checkpoint; until it is loaded
  std::string base_;                // with a checkpoint: the base of its adapters, empty: where it was
  std::unique_ptr<Tokenizer> tokenizer_;
};

}  // namespace neurogen
