// OpenBLAS, loaded at run time: a program without it starts and says what to install, and its variables can be set first.
#pragma once

namespace neurogen {

struct OpenBlas {
  // The C interface of BLAS; its enumerations are ints.
  template <typename Real>
  using Gemm = void (*)(int order, int transpose_a, int transpose_b, int m, int n, int k, Real alpha, const Real* a, int lda,
                        const Real* b, int ldb, Real beta, Real* c, int ldc);
  static constexpr int kRowMajor = 101, kNoTrans = 111, kTrans = 112;

  Gemm<float> sgemm = nullptr;
  Gemm<double> dgemm = nullptr;
};

// Loads the library the first time. Throws Error where it is missing.
const OpenBlas& openblas();

// "OpenBLAS 0.3.21 ... SkylakeX ...": its version and the CPU whose code it has chosen. Throws Error where it is missing.
const char* openblas_description();

// While one lives, the library leaves every product to the thread that calls it, in a process that uses it otherwise as well;
// when the last is gone, it has its threads again.
class SerialProducts {
 public:
  SerialProducts();
  ~SerialProducts();
  SerialProducts(const SerialProducts&) = delete;
  SerialProducts& operator=(const SerialProducts&) = delete;
};

// As many work buffers as threads may be inside a product at once: OpenBLAS would map each when it is first needed.
void reserve_openblas_buffers(int threads);

}  // namespace neurogen
