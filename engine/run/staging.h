// Copies between ordinary memory and a GPU through the staging buffer: while one half of it is on its way to or from the GPU,
// the session's threads fill or empty the other. Allocates nothing; done when it returns.
#pragma once
#include "engine/run/session.h"

namespace neurogen {

// `from`, `to`: one in the host's memory, the other in the device arena.
void copy_to_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes);
void copy_from_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes);

}  // namespace neurogen
