// Memory of a run outside its arenas.
#pragma once
#include "engine/run/session.h"

namespace neurogen {

// Memory outside the arenas: on the GPU if there is one, else of the process.
Bytes measured_overhead(const Session& session);

// Returns the same. Throws Error if arenas and measured overhead exceed the budget.
Bytes checked_overhead(const Session& session);

}  // namespace neurogen
