// OpenBLAS, loaded at run time: a program starts without it, says what to install, and can set its environment variables first.
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

// Loads the library on the first call. Throws Error if it is missing.
const OpenBlas& openblas();

// "OpenBLAS 0.3.21 ... SkylakeX ...": its version and the CPU type it has chosen. Throws Error if it is missing.
const char* openblas_description();

// While alive, every product runs on the thread that calls it, even if other code in the process uses the library too; when the
// last one is destroyed, the library gets its threads back.
class SerialProducts {
 public:
  SerialProducts();
  ~SerialProducts();
  SerialProducts(const SerialProducts&) = delete;
  SerialProducts& operator=(const SerialProducts&) = delete;
};

// Makes a work buffer for each of `threads` concurrent products, which OpenBLAS would otherwise map on first use.
void reserve_openblas_buffers(int threads);

}  // namespace neurogen
