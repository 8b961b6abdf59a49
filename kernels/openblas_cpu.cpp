#include "kernels/openblas.h"

#include <dlfcn.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "arena/error.h"

namespace neurogen {
namespace {

constexpr std::size_t kBuffer = std::size_t{128} << 20;  // that the library maps for each thread; little of it is touched

struct Library : OpenBlas {
  char* (*describe)() = nullptr;
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
    if (library == nullptr) {
      const char* const why = dlerror();
      throw Error(std::string("the matrix library cannot be loaded (") + (why ? why : "out of memory") +
                      "): apt-get install libopenblas0-pthread",
                  Error::kRunTime);
    }
    const auto find = [library](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    };
    void (*set_threads)(int) = nullptr;
    find(sgemm, "cblas_sgemm");
    find(dgemm, "cblas_dgemm");
    find(set_threads, "openblas_set_num_threads");
    find(describe, "openblas_get_config");
    find(memory_alloc, "blas_memory_alloc");
    find(memory_free, "blas_memory_free");
    if (!sgemm || !dgemm || !set_threads || !describe || !memory_alloc || !memory_free) {
      throw Error("libopenblas.so.0 is not the matrix library that it should be: apt-get install libopenblas0-pthread",
                  Error::kRunTime);
    }
    set_threads(1);
  }
};

const Library& library() {
  static const Library loaded;
  return loaded;
}

}  // namespace

const OpenBlas& openblas() { return library(); }
const char* openblas_description() { return library().describe(); }

void reserve_openblas_buffers(int threads) {
  // Where the system has no memory for a buffer, the library asks again for ever. So ours is the first try.
  const std::size_t bytes = kBuffer * static_cast<std::size_t>(threads);
  void* const room = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) {
    throw Error(std::string("the system does not give the matrix library room for its buffers (") + std::strerror(errno) +
                    "): free some memory or use fewer --threads",
                Error::kRunTime);
  }
  munmap(room, bytes);
  std::vector<void*> buffers;
  for (int i = 0; i < threads; ++i) buffers.push_back(library().memory_alloc(0));
  for (void* buffer : buffers) library().memory_free(buffer);
}

}  // namespace neurogen
