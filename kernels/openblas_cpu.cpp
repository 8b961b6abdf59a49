#include "kernels/openblas.h"

#include <dlfcn.h>

#include <cstdlib>
#include <type_traits>
#include <vector>

#include "arena/error.h"

namespace neurogen {
namespace {

struct Library : OpenBlas {
  void* (*memory_alloc)(int) = nullptr;
  void (*memory_free)(void*) = nullptr;

  Library() {
    // The threads are ours: products run serially inside them, which is faster and allocates nothing.
    setenv("OPENBLAS_NUM_THREADS", "1", /*overwrite=*/0);
#if defined(__x86_64__)
    // OpenBLAS 0.3.21 takes an AVX-512 CPU that it does not know for a Haswell, which halves its speed.
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq"))
      setenv("OPENBLAS_CORETYPE", "SkylakeX", /*overwrite=*/0);
#endif
    void* const library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    const char* const missing = "libopenblas.so.0 is not installed: apt-get install libopenblas0-pthread";
    if (library == nullptr) throw Error(missing);
    const auto find = [library](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    };
    void (*set_threads)(int) = nullptr;
    find(sgemm, "cblas_sgemm");
    find(dgemm, "cblas_dgemm");
    find(set_threads, "openblas_set_num_threads");
    find(memory_alloc, "blas_memory_alloc");
    find(memory_free, "blas_memory_free");
    if (!sgemm || !dgemm || !set_threads || !memory_alloc || !memory_free) throw Error(missing);
    set_threads(1);
  }
};

const Library& library() {
  static const Library loaded;
  return loaded;
}

}  // namespace

const OpenBlas& openblas() { return library(); }

void reserve_openblas_buffers(int threads) {
  std::vector<void*> buffers;
  for (int i = 0; i < threads; ++i) buffers.push_back(library().memory_alloc(0));
  for (void* buffer : buffers) library().memory_free(buffer);
}

}  // namespace neurogen
