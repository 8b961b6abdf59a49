// Saves a model while it trains, to a file that gets its name once it is complete and on disk.
//
// If the system refuses (no space, no directory, read-only), older files stay and training can go on. Non-finite parameters are
// never saved. From a GPU, one slot of the staging buffer is copied while the saver's thread writes another; on a CPU the arena
// itself is written. Checksums are computed on the way.
//
// With a snapshot in the plan, everything is copied there first, and the thread writes the snapshot while training goes on.
#pragma once
#include <memory>
#include <optional>

#include "engine/files/checkpoint_directory.h"
#include "engine/run/session.h"

namespace neurogen {

// What manifests say of these options.
SavedOptions saved_options(const StepOptions& options);

enum class Saved { yes, no, not_finite };

class Saver {
 public:
  // Allocates all that saves need. `manifest`: the part common to all saves, without tensors. Session and place must outlive the
  // saver.
  Saver(const Session& session, const Manifest& manifest, CheckpointPlace& place);
  ~Saver();  // waits for a running save

  // Waits for the previous save, begins a new one, and returns when training may go on: at the end of the save, or with a snapshot
  // as soon as that is taken. Nothing else may use the place until there is a result. begin, result and save are for use between
  // steps and allocate nothing.
  void begin(const Standing& standing);
  // Result of the save begun last; empty while it is running (unless `wait`) and once it has been returned.
  std::optional<Saved> result(bool wait);
  Saved save(const Standing& standing) { return begin(standing), *result(true); }

  // Why the save whose result was returned last failed, in a sentence, and how long it took from beginning to end.
  const char* error() const;
  double milliseconds() const;

 private:
  struct Work;
  std::unique_ptr<Work> work_;
};

}  // namespace neurogen
