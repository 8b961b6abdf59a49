// From a checkpoint to a brain in memory.
#pragma once
#include "engine/run/session.h"

namespace neurogen {

// How a file's numbers become those of a plan: as they are; in types that hold them all; in types that round them.
enum class Conversion { none, exact, rounding };
// Throws Error where the plan asks for a tensor that the file has not, in its place and shape.
Conversion conversion(const Checkpoint& from, const Plan& plan);

// Fills every persistent tensor of the session and makes the derived ones. Where the session began with the file's image
// nothing is left to copy; a GPU is filled through the staging buffer (staging.h), by the whole image at once where the file is
// laid out as the plan is; other types are converted tensor by tensor. Throws Error for values that could lead astray: wiring
// that names sources that are not there, impossible counts.
void restore(Session& session, const Checkpoint& from);

// The same for a run that goes on: compares every tensor's checksum first, unless `verify` is false, and throws Error where numbers
// would be rounded, unless `convert` is true. An Error leaves the session as it was, but for a GPU or a disk that fails.
void go_on(Session& session, const Checkpoint& from, bool verify, bool convert);

}  // namespace neurogen
