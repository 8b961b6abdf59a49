#include <dlfcn.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "arena/error.h"
#include "kernels/base/openblas.h"

namespace neurogen {
namespace {

constexpr std::size_t kBuffer = std::size_t{128} << 20;  // mapped by the library for each thread; only a little of it is touched

// Sets an environment variable while the library loads, unless the user has set it.
class Suggestion {
 public:
  Suggestion(const char* name, const char* value, bool suggested = true) : name_(suggested && !std::getenv(name) ? name : nullptr) {
    if (name_) setenv(name_, value, 1);
  }
  ~Suggestion() {
    if (name_) unsetenv(name_);
  }

 private:
  const char* name_;
};

struct Library : OpenBlas {
  char* (*describe)() = nullptr;
  void* (*memory_alloc)(int) = nullptr;
  void (*memory_free)(void*) = nullptr;
  int (*get_threads)() = nullptr;
  void (*set_threads)(int) = nullptr;
  int threads_of_others = 1;  // the library's own thread count after loading

  Library() {
    // Products run serially inside the engine's threads, which is faster and allocates nothing.
    const Suggestion serial("OPENBLAS_NUM_THREADS", "1");
#if defined(__x86_64__)
    // OpenBLAS 0.3.21 mistakes an unknown AVX-512 CPU for a Haswell, which halves its speed.
    const Suggestion core("OPENBLAS_CORETYPE", "SkylakeX",
                          __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                              __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"));
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
    find(sgemm, "cblas_sgemm");
    find(dgemm, "cblas_dgemm");
    find(get_threads, "openblas_get_num_threads");
    find(set_threads, "openblas_set_num_threads");
    find(describe, "openblas_get_config");
    find(memory_alloc, "blas_memory_alloc");
    find(memory_free, "blas_memory_free");
    if (!sgemm || !dgemm || !get_threads || !set_threads || !describe || !memory_alloc || !memory_free) {
      throw Error("libopenblas.so.0 is not OpenBLAS, or lacks some of its functions: apt-get install libopenblas0-pthread",
                  Error::kRunTime);
    }
    threads_of_others = get_threads();
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

namespace {
std::mutex sharing;
int users = 0, threads_of_others = 0;
}  // namespace

SerialProducts::SerialProducts() {
  const Library& shared = library();
  const std::lock_guard lock(sharing);
  if (users++ > 0) return;
  threads_of_others = threads_of_others == 0 ? shared.threads_of_others : shared.get_threads();
  shared.set_threads(1);
}

SerialProducts::~SerialProducts() {
  const std::lock_guard lock(sharing);
  if (--users == 0) library().set_threads(threads_of_others);
}

void reserve_openblas_buffers(int threads) {
  // The library retries for ever if the system has no memory for a buffer, so this tries first.
  const std::size_t bytes = kBuffer * static_cast<std::size_t>(threads);
  void* const room = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (room == MAP_FAILED) {
    throw Error({std::string("the system cannot allocate the matrix library's buffers (") + std::strerror(errno) +
                     "): free some memory or use fewer ",
                 Field("threads")},
                Error::kRunTime);
  }
  munmap(room, bytes);
  std::vector<void*> buffers;
  for (int i = 0; i < threads; ++i) buffers.push_back(library().memory_alloc(0));
  for (void* buffer : buffers) library().memory_free(buffer);
}

}  // namespace neurogen
