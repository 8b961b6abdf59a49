// What is said where a GPU cannot be used: apart from the asking, so that every answer can be tried without such a GPU.
#pragma once
#include <string>

#include "arena/bytes.h"
#include "arena/error.h"

namespace neurogen {

// What the driver answers, asked how many GPUs there are.
enum class GpuAnswer { counted, none, old_driver, refused };

// How many can be used. `driver`: one is installed; without, the runtime complains of an old one. `toolkit`: the version of CUDA
// that this was built with; `words`: the driver's own. Throws Error where a GPU is there but cannot be used.
int usable_gpus(GpuAnswer answer, int count, bool driver, int toolkit, const std::string& words);

// Throws Error where GPU `ordinal` is not among `there`.
void require_gpu(int ordinal, int there);

inline constexpr int kOldestCapability = 75;  // 10 * major + minor, of the oldest machine code that can be built

// Throws Error for a GPU that is too old, or for which this build has no machine code.
void require_capability(const std::string& name, int capability, bool has_code);

// A GPU that refuses to start, with the driver's words.
Error gpu_refuses(const std::string& name, const std::string& words);

// A GPU that does not give so many bytes in one piece; `free` and `total`: what it has, 0 where it does not say.
Error gpu_too_full(Bytes bytes, Bytes free, Bytes total);

}  // namespace neurogen
