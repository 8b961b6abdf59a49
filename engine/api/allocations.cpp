// Counts allocations of the library's own code. The linker redirects every call of NAME in the library to __wrap_NAME, and
// __real_NAME is NAME itself: the program's allocator stays in place and sees no difference.
#include "arena/allocations.h"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

namespace {

void count() {
  if (neurogen::AllocationAccount* account = neurogen::allocation_account) account->fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

// COUNT(result type, name, parameters, arguments)
#define COUNT(Result, name, parameters, arguments) \
  Result __real_##name parameters;                 \
  Result __wrap_##name parameters {                \
    count();                                       \
    return __real_##name arguments;                \
  }

extern "C" {
COUNT(void*, malloc, (std::size_t size), (size))
COUNT(void*, calloc, (std::size_t items, std::size_t size), (items, size))
COUNT(void*, realloc, (void* block, std::size_t size), (block, size))
COUNT(void*, aligned_alloc, (std::size_t alignment, std::size_t size), (alignment, size))
COUNT(int, posix_memalign, (void** block, std::size_t alignment, std::size_t size), (block, alignment, size))
COUNT(void*, mmap, (void* at, std::size_t size, int protection, int flags, int file, off_t offset),
      (at, size, protection, flags, file, offset))
// operator new, new[], and their aligned forms; an exception is an allocation too.
COUNT(void*, _Znwm, (std::size_t size), (size))
COUNT(void*, _Znam, (std::size_t size), (size))
COUNT(void*, _ZnwmSt11align_val_t, (std::size_t size, std::align_val_t alignment), (size, alignment))
COUNT(void*, _ZnamSt11align_val_t, (std::size_t size, std::align_val_t alignment), (size, alignment))
COUNT(void*, __cxa_allocate_exception, (std::size_t size), (size))
#ifdef NEUROGEN_CUDA
COUNT(int, cudaMalloc, (void** memory, std::size_t size), (memory, size))
COUNT(int, cudaHostAlloc, (void** memory, std::size_t size, unsigned flags), (memory, size, flags))
#endif
}
