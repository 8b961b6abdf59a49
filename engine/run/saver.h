// Saving a brain while it trains: to a file beside the others, which gets its name once it is whole and safe on the disk.
//
// A file that the system refuses (no space, no directory, read-only) leaves all that was there as it was, and training can go
// on. Parameters that are not finite are never saved. From a GPU, one half of the staging buffer is copied while a thread of
// the saver's writes the other; on a CPU the arena itself is written. Checksums are computed on the way.
#pragma once
#include <memory>

#include "engine/files/checkpoint_directory.h"
#include "engine/run/session.h"

namespace neurogen {

enum class Saved { yes, no, not_finite };

class Saver {
 public:
  // All that a save needs is allocated here. `manifest`: what stays the same for every save. All must outlive the saver.
  Saver(const Session& session, const Manifest& manifest, CheckpointPlace& place);
  ~Saver();

  // Between steps. Allocates nothing.
  Saved save(const Standing& standing);
  // Why the latest save failed, in a sentence.
  const char* error() const;

 private:
  struct Work;
  std::unique_ptr<Work> work_;
};

}  // namespace neurogen
