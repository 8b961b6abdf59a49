#include <dlfcn.h>

#include <string>
#include <type_traits>

#include "arena/error.h"
#include "kernels/base/cublas.cuh"

namespace neurogen {
namespace {

Cublas load() {
  const std::string name = "libcublas.so." + std::to_string(CUBLAS_VER_MAJOR);
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) library = dlopen(("/usr/local/cuda/lib64/" + name).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library)
    throw Error({name + " is not installed: install CUDA " + std::to_string(CUBLAS_VER_MAJOR) + "'s cuBLAS, or pass ",
                 Field("device"), " cpu"});
  Cublas c;
  const auto find = [&](auto& function, const char* symbol) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, symbol));
    if (!function) throw Error({name + " lacks " + symbol + ": install a newer cuBLAS, or pass ", Field("device"), " cpu"});
  };
  find(c.create, "cublasCreate_v2");
  find(c.destroy, "cublasDestroy_v2");
  find(c.set_stream, "cublasSetStream_v2");
  find(c.set_workspace, "cublasSetWorkspace_v2");
  find(c.gemm_ex, "cublasGemmEx_64");
  find(c.gemm_batched_ex, "cublasGemmStridedBatchedEx_64");
  find(c.status_string, "cublasGetStatusString");
  return c;
}

}  // namespace

const Cublas& cublas() {
  static const Cublas loaded = load();
  return loaded;
}

}  // namespace neurogen
