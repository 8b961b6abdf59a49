// A trained brain from a file: weights in safetensors (`train --export`), or a checkpoint.
#pragma once
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

// Where --arch, --compute and --decoder-storage are automatic, settings take what the checkpoint was trained with.
void adopt_checkpoint(Settings& settings, const Checkpoint& from);
// Throws Error, naming both sides, if it holds another brain.
void check_architecture(const Checkpoint& from, const Architecture& asked);
// Throws Error, naming both sides, if it was trained with another tokenizer than this one (may be null).
void check_tokenizer(const Checkpoint& from, const Tokenizer* tokenizer);

// The weights of a brain that is to be used, not trained.
class Weights {
 public:
  // Settings take from the file what they leave open. Throws Error if it does not say which architecture it is of, and if it
  // was trained with another tokenizer than this one (may be null).
  Weights(const WeightSettings& files, Settings& settings, const Tokenizer* tokenizer);

  // For the session, which begins with it; null where the weights are no checkpoint.
  const Checkpoint* checkpoint() const { return checkpoint_ ? &*checkpoint_ : nullptr; }
  // Reads of a checkpoint no more than the weights, and compares their checksums. Whether they were rounded.
  bool load(Session& session) const;

 private:
  std::string init_;
  std::optional<Checkpoint> checkpoint_;
};

}  // namespace neurogen
