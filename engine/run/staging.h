// Copies between ordinary memory and a GPU through the staging buffer: while most of its slots are copied to or from the GPU, the
// session's threads fill or empty one. Allocates nothing. Complete on return; nothing is pending after an exception.
#pragma once
#include "engine/run/session.h"

namespace neurogen {

// `from`, `to`: one in host memory, the other in the device arena.
void copy_to_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes);
// From an open file, by the same threads. Throws Error if it cannot be read or ends too soon.
void copy_to_gpu(const Session& session, const FileRange& from, std::byte* to);
void copy_from_gpu(const Session& session, const std::byte* from, std::byte* to, Bytes bytes);

}  // namespace neurogen
