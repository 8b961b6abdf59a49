// Loads a trained model from a file: weights in safetensors (`train --export`), a checkpoint, or pretrained ones.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "engine/data/tokenizer.h"
#include "engine/run/settings.h"

namespace neurogen {

// One of the two is set; or both, if the checkpoint holds adapters: then `init` is their base, wherever it was before.
struct WeightSettings {
  std::string init;        // a safetensors file, a checkpoint, or pretrained: a folder of transformers or a GGUF file
  std::string checkpoint;  // a checkpoint, or a directory (the newest one is used)
};

// Automatic values of --arch, --compute, --decoder-storage and --document-end become those that the checkpoint was trained with.
void adopt_checkpoint(Settings& settings, const Checkpoint& from);
// The same from weights to start training from, of any kind: the architecture, and without --document-end the one that they were
// trained with; pretrained weights are trained by AdamW. Checks nothing else.
void adopt_weights(Settings& settings, const std::string& weights);
// Throws Error, naming both values, if the checkpoint holds another architecture.
void check_architecture(const Checkpoint& from, const Architecture& asked);
// The same for weights of any kind that adopt_weights takes, as far as they name their architecture.
void check_architecture(const std::string& weights, const Architecture& asked);
// Throws Error, naming both hashes, if the checkpoint was trained with a tokenizer other than this one (may be null).
void check_tokenizer(const Checkpoint& from, const Tokenizer* tokenizer);
// read_tokenizer, with more heap for the time of reading.
std::unique_ptr<Tokenizer> named_tokenizer(const std::string& path);
// The tokenizer in a file of weights, null if there is none; likewise.
std::unique_ptr<Tokenizer> carried_tokenizer(const Checkpoint& from);
std::unique_ptr<Tokenizer> carried_tokenizer(const std::string& file);  // weights of any kind

// Weights of a model for use, not for training.
class Weights {
 public:
  // Automatic settings are taken from the file. `tokenizer`: a file; empty: the one in the weights. Throws Error if the weights do
  // not name their architecture or were trained with another tokenizer.
  Weights(const WeightSettings& files, Settings& settings, const std::string& tokenizer);

  std::unique_ptr<Tokenizer> take_tokenizer() { return std::move(tokenizer_); }  // leaves none
  const Tokenizer* tokenizer() const { return tokenizer_.get(); }                // null: none given and none in the weights
  // The checkpoint, for the session to map; null if the weights are safetensors.
  const Checkpoint* checkpoint() const { return checkpoint_ ? &*checkpoint_ : nullptr; }
  // Loads the weights; from a checkpoint only these, with verified checksums. Returns whether they were rounded.
  bool load(Session& session) const;

 private:
  std::string init_;  // with a checkpoint: the base of its adapters, empty: where it was
  std::optional<Checkpoint> checkpoint_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

}  // namespace neurogen
