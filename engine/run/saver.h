// Saving a brain while it trains: to a file beside the others, which gets its name once it is whole and safe on the disk.
//
// A file that the system refuses (no space, no directory, read-only) leaves all that was there as it was, and training can go
// on. Parameters that are not finite are never saved. From a GPU, one slot of the staging buffer is copied while a thread of
// the saver's writes another; on a CPU the arena itself is written. Checksums are computed on the way.
//
// Where the plan has a snapshot, all of it is copied there first, and the thread writes that while training goes on.
#pragma once
#include <memory>
#include <optional>

#include "engine/files/checkpoint_directory.h"
#include "engine/run/session.h"

namespace neurogen {

enum class Saved { yes, no, not_finite };

class Saver {
 public:
  // All that a save needs is allocated here. `manifest`: what stays the same for every save. All must outlive the saver.
  Saver(const Session& session, const Manifest& manifest, CheckpointPlace& place);
  ~Saver();  // waits for a save under way

  // Between steps, as the two that follow; they allocate nothing. Begins a save once the one before is over, and returns when
  // training may go on: at the end of it, or with a snapshot as soon as that is taken. Until there is a result, nobody else may
  // use the place.
  void begin(const Standing& standing);
  // What came of the save that was begun: nothing before it is over, unless asked to wait, and nothing where it was told before.
  std::optional<Saved> result(bool wait);
  Saved save(const Standing& standing) { return begin(standing), *result(true); }

  // Of the save whose result came last: why it failed, in a sentence, and how long it took from its beginning to its end.
  const char* error() const;
  double milliseconds() const;

 private:
  struct Work;
  std::unique_ptr<Work> work_;
};

}  // namespace neurogen
