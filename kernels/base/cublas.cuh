// cuBLAS, loaded when the first GPU is used: on the CPU a program neither needs it nor pays for it (100 MB of relocated pages).
#pragma once
#include <cublas_v2.h>

namespace neurogen {

struct Cublas {
  decltype(&cublasCreate_v2) create = nullptr;
  decltype(&cublasDestroy_v2) destroy = nullptr;
  decltype(&cublasSetStream_v2) set_stream = nullptr;
  decltype(&cublasSetWorkspace_v2) set_workspace = nullptr;
  decltype(&cublasGemmEx_64) gemm_ex = nullptr;
  decltype(&cublasGemmStridedBatchedEx_64) gemm_batched_ex = nullptr;
  decltype(&cublasGetStatusString) status_string = nullptr;
};

// Throws Error if the library is missing.
const Cublas& cublas();

}  // namespace neurogen
