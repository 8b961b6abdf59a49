// Error messages for unusable GPUs, separate from the driver calls so that each can be tested without that GPU.
#pragma once
#include <string>

#include "arena/bytes.h"
#include "arena/error.h"

namespace neurogen {

// The driver's answer to how many GPUs there are.
enum class GpuAnswer { counted, none, old_driver, refused };

// Number of usable GPUs. `driver`: whether one is installed (without one, the runtime reports an old driver). `toolkit`: the CUDA
// version of this build. `words`: the driver's own message. Throws Error if a GPU is present but unusable.
int usable_gpus(GpuAnswer answer, int count, bool driver, int toolkit, const std::string& words);

// Throws Error if GPU `ordinal` is not among the `there` GPUs.
void require_gpu(int ordinal, int there);

inline constexpr int kOldestCapability = 75;  // 10 * major + minor of the oldest supported GPU code

// Throws Error for a GPU that is too old, or for which this build has no machine code.
void require_capability(const std::string& name, int capability, bool has_code);

// The GPU fails to start, for the reason in the driver's `words`.
Error gpu_refuses(const std::string& name, const std::string& words);

// The GPU cannot give `bytes` in one piece. `free` and `total` describe its memory; 0 if unknown.
Error gpu_too_full(Bytes bytes, Bytes free, Bytes total);

}  // namespace neurogen
