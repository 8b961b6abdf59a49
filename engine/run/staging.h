// Copies between ordinary memory and a GPU through the staging buffer: while most of its slots are on their way to or from the
// GPU, the session's threads fill or empty one. Allocates nothing; done when it returns, and nothing is under way when it throws.
#pragma once
#include "engine/run/session.h"

namespace neurogen {

// `from`, `to`: one in the host's memory, the other in the device arena.
void copy_to_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes);
// From an open file, by as many threads. Throws Error where it cannot be read or ends too soon.
void copy_to_gpu(const Session& session, const FileRange& from, std::byte* to);
void copy_from_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes);

}  // namespace neurogen
