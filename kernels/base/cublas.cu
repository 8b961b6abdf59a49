#include <dlfcn.h>

#include <string>

#include "arena/error.h"
#include "kernels/base/cublas.cuh"

namespace neurogen {
namespace {

// A library of cuBLAS.
class Library {
 public:
  explicit Library(const std::string& stem) : name_(stem + ".so." + std::to_string(CUBLAS_VER_MAJOR)) {
    handle_ = dlopen(name_.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!handle_) handle_ = dlopen(("/usr/local/cuda/lib64/" + name_).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_) return;
    throw Error({name_ + " is not installed: install CUDA " + std::to_string(CUBLAS_VER_MAJOR) + "'s cuBLAS, or pass ",
                 Field("device"), " cpu"});
  }
  template <typename Function>
  void find(Function& function, const char* symbol) const {
    function = reinterpret_cast<Function>(dlsym(handle_, symbol));
    if (!function) throw Error({name_ + " lacks " + symbol + ": install a newer cuBLAS, or pass ", Field("device"), " cpu"});
  }

 private:
  std::string name_;
  void* handle_;
};

Cublas load() {
  const Library library("libcublas");
  Cublas c;
  library.find(c.create, "cublasCreate_v2");
  library.find(c.destroy, "cublasDestroy_v2");
  library.find(c.set_stream, "cublasSetStream_v2");
  library.find(c.set_workspace, "cublasSetWorkspace_v2");
  library.find(c.set_multiprocessors, "cublasSetSmCountTarget");
  library.find(c.gemm_ex, "cublasGemmEx_64");
  library.find(c.gemm_batched_ex, "cublasGemmStridedBatchedEx_64");
  library.find(c.status_string, "cublasGetStatusString");
  return c;
}

CublasLt load_lt() {
  const Library library("libcublasLt");
  CublasLt c;
  library.find(c.matmul, "cublasLtMatmul");
  library.find(c.heuristic, "cublasLtMatmulAlgoGetHeuristic");
  library.find(c.description_create, "cublasLtMatmulDescCreate");
  library.find(c.description_set, "cublasLtMatmulDescSetAttribute");
  library.find(c.description_destroy, "cublasLtMatmulDescDestroy");
  library.find(c.layout_create, "cublasLtMatrixLayoutCreate");
  library.find(c.layout_destroy, "cublasLtMatrixLayoutDestroy");
  library.find(c.preference_create, "cublasLtMatmulPreferenceCreate");
  library.find(c.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  library.find(c.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  return c;
}

}  // namespace

const Cublas& cublas() {
  static const Cublas loaded = load();
  return loaded;
}
const CublasLt& cublas_lt() {
  static const CublasLt loaded = load_lt();
  return loaded;
}

}  // namespace neurogen
