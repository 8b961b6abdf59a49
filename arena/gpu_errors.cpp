#include "arena/gpu_errors.h"

#include <fmt/format.h>

namespace neurogen {
namespace {

constexpr Field kDevice("device"), kBudget("budget");

}  // namespace

int usable_gpus(GpuAnswer answer, int count, bool driver, int toolkit, const std::string& words) {
  if (answer == GpuAnswer::counted) return count;
  if (answer == GpuAnswer::none || !driver) return 0;
  if (answer == GpuAnswer::old_driver) {
    throw Error(
        {fmt::format("the GPU's driver is older than CUDA {}: install a newer driver, or pass ", toolkit), kDevice, " cpu"});
  }
  throw Error({fmt::format("a GPU is present but cannot be used ({}): fix that, or pass ", words), kDevice, " cpu"});
}

void require_gpu(int ordinal, int there) {
  if (there == 0) throw Error({"there is no NVIDIA GPU here: use ", kDevice, " cpu"});
  if (ordinal < 0 || ordinal >= there) {
    throw Error(there == 1 ? fmt::format("there is no GPU {}: use 0", ordinal)
                           : fmt::format("there is no GPU {}: use 0 to {}", ordinal, there - 1));
  }
}

void require_capability(const std::string& name, int capability, bool has_code) {
  const std::string has = fmt::format("{} has compute capability {}.{}", name, capability / 10, capability % 10);
  if (capability < kOldestCapability) throw Error({has + ", 7.5 is needed: use ", kDevice, " cpu"});
  if (!has_code) {
    throw Error(
        {fmt::format("{}, for which this build has no code: build with make CUDA={}, or pass ", has, capability), kDevice, " cpu"});
  }
}

Error gpu_refuses(const std::string& name, const std::string& words) {
  return Error({fmt::format("{} cannot be used ({}): close the programs that use it, or pass ", name, words), kDevice, " cpu"},
               Error::kRunTime);
}

Error gpu_too_full(Bytes bytes, Bytes free, Bytes total) {
  if (total == 0) {
    return Error(
        {fmt::format("the GPU cannot allocate {} bytes: close other programs that use it or pass a smaller ", with_commas(bytes)),
         kBudget},
        Error::kRunTime);
  }
  if (bytes > total) {
    return Error(
        {fmt::format("the GPU has {} bytes in all, and the plan needs {}: pass a smaller ", with_commas(total), with_commas(bytes)),
         kBudget},
        Error::kRunTime);
  }
  return Error(
      {fmt::format("the GPU has {} of {} bytes free, and the plan needs {}: close other programs that use it or pass a smaller ",
                   with_commas(free), with_commas(total), with_commas(bytes)),
       kBudget},
      Error::kRunTime);
}

}  // namespace neurogen
