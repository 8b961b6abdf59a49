// Loads a trained model from a file: weights in safetensors (`train --export`), or a checkpoint.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "engine/data/tokenizer.h"
#include "engine/run/settings.h"

namespace neurogen {

// Exactly one of the two is set.
struct WeightSettings {
  std::string init;        // a safetensors file or a checkpoint
  std::string checkpoint;  // a checkpoint, or a directory (the newest one is used)
};

// Automatic values of --arch, --compute, --decoder-storage and --document-end become those that the checkpoint was trained with.
void adopt_checkpoint(Settings& settings, const Checkpoint& from);
// Without --document-end, settings take the one that these weights, a safetensors file or a checkpoint, were trained with.
void adopt_document_end(Settings& settings, const std::string& weights);
// The architecture's JSON in a checkpoint or a safetensors file, empty if it has none.
std::string saved_architecture(const std::string& file);
// Throws Error, naming both values, if the checkpoint holds another architecture.
void check_architecture(const Checkpoint& from, const Architecture& asked);
// Throws Error, naming both hashes, if the checkpoint was trained with a tokenizer other than this one (may be null).
void check_tokenizer(const Checkpoint& from, const Tokenizer* tokenizer);
// read_tokenizer, with more heap for the time of reading.
std::unique_ptr<Tokenizer> named_tokenizer(const std::string& path);
// The tokenizer in a file of weights, null if there is none; likewise.
std::unique_ptr<Tokenizer> carried_tokenizer(const Checkpoint& from);
std::unique_ptr<Tokenizer> carried_tokenizer(const std::string& file);  // a checkpoint or a safetensors file

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
  std::string init_;
  std::optional<Checkpoint> checkpoint_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

}  // namespace neurogen
