// Loads a checkpoint into a session.
#pragma once
#include "engine/run/session.h"

namespace neurogen {

// Conversion from a file's types to the plan's: not needed, exact, or with rounding.
enum class Conversion { none, exact, rounding };
// Throws Error if the file lacks a tensor of the plan in its shape, or has weights that the plan has not.
Conversion conversion(const Checkpoint& from, const Plan& plan);

// Fills every persistent tensor of the session and computes the derived ones. If the session was mapped from the file's image,
// nothing is copied. A GPU is filled through the staging buffer (staging.h): with the whole image at once if the file has the
// plan's layout. Other types are converted tensor by tensor. Throws Error for values that are unsafe to use: wiring that names
// sources that do not exist, impossible counts.
void restore(Session& session, const Checkpoint& from);

// The same to resume a run: verifies every tensor's checksum first, unless `verify` is false, and throws Error if numbers would be
// rounded, unless `convert` is true. An Error leaves the session unchanged, unless a GPU or a disk fails.
void go_on(Session& session, const Checkpoint& from, bool verify, bool convert);

}  // namespace neurogen
