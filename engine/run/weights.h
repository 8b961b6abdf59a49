// A trained brain from a file: weights in safetensors (`train --export`), or a checkpoint.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "engine/files/tokenizer.h"
#include "engine/run/settings.h"

namespace neurogen {

// One of the two.
struct WeightSettings {
  std::string init;        // a safetensors file or a checkpoint
  std::string checkpoint;  // a checkpoint, or a directory of which the newest is taken
};

// Where --arch, --compute, --decoder-storage and --document-end are automatic, settings take what the checkpoint was trained with.
void adopt_checkpoint(Settings& settings, const Checkpoint& from);
// Where --document-end is not given, settings take what these weights, a safetensors file or a checkpoint, were trained with.
void adopt_document_end(Settings& settings, const std::string& weights);
// The architecture's JSON in a checkpoint or a safetensors file, empty where it has none.
std::string saved_architecture(const std::string& file);
// Throws Error, naming both sides, if it holds another brain.
void check_architecture(const Checkpoint& from, const Architecture& asked);
// Throws Error, naming both sides, if it was trained with another tokenizer than this one (may be null).
void check_tokenizer(const Checkpoint& from, const Tokenizer* tokenizer);
// The tokenizer that a file of weights carries, null where it carries none.
std::unique_ptr<Tokenizer> carried_tokenizer(const Checkpoint& from);
std::unique_ptr<Tokenizer> carried_tokenizer(const std::string& file);  // a checkpoint or a safetensors file

// The weights of a brain that is to be used, not trained.
class Weights {
 public:
  // Settings take from the file what they leave open. `tokenizer`: a file, empty: the one that the weights carry. Throws Error if
  // the weights do not say which architecture they are of, and if they were trained with another tokenizer.
  Weights(const WeightSettings& files, Settings& settings, const std::string& tokenizer);

  const Tokenizer* tokenizer() const { return tokenizer_.get(); }  // null: none was named and none is carried
  // For the session, which begins with it; null where the weights are no checkpoint.
  const Checkpoint* checkpoint() const { return checkpoint_ ? &*checkpoint_ : nullptr; }
  // Reads of a checkpoint no more than the weights, and compares their checksums. Whether they were rounded.
  bool load(Session& session) const;

 private:
  std::string init_;
  std::optional<Checkpoint> checkpoint_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

}  // namespace neurogen
