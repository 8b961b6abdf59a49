// Preloaded into an engine, counts what the engine cannot hide from the dynamic linker: every call that its allocator sends
// on to mimalloc, and every wish for pages by a name of the C library. Writes both into the file $NEUROGEN_COUNTS at exit.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

namespace {

std::atomic<unsigned long> allocations{0}, pages{0};

template <typename Result, typename... Arguments>
Result forward(const char* name, std::atomic<unsigned long>& counter, Arguments... arguments) {
  ++counter;
  return reinterpret_cast<Result (*)(Arguments...)>(dlsym(RTLD_NEXT, name))(arguments...);
}

__attribute__((destructor)) void write_counts() {
  const char* path = std::getenv("NEUROGEN_COUNTS");
  const int file = path == nullptr ? -1 : ::open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file < 0) return;
  char text[64];
  const int size = std::snprintf(text, sizeof text, "%lu %lu\n", allocations.load(), pages.load());
  if (::write(file, text, static_cast<std::size_t>(size)) != size) std::abort();
  ::close(file);
}

}  // namespace

extern "C" {
void* mi_malloc(std::size_t size) { return forward<void*>("mi_malloc", allocations, size); }
void* mi_calloc(std::size_t n, std::size_t size) { return forward<void*>("mi_calloc", allocations, n, size); }
void* mi_realloc(void* p, std::size_t size) { return forward<void*>("mi_realloc", allocations, p, size); }
void* mi_reallocarray(void* p, std::size_t n, std::size_t size) {
  return forward<void*>("mi_reallocarray", allocations, p, n, size);
}
void* mi_malloc_aligned(std::size_t size, std::size_t to) {
  return forward<void*>("mi_malloc_aligned", allocations, size, to);
}
void* mi_aligned_alloc(std::size_t to, std::size_t size) {
  return forward<void*>("mi_aligned_alloc", allocations, to, size);
}
void* mi_memalign(std::size_t to, std::size_t size) { return forward<void*>("mi_memalign", allocations, to, size); }
void* mi_valloc(std::size_t size) { return forward<void*>("mi_valloc", allocations, size); }
void* mi_pvalloc(std::size_t size) { return forward<void*>("mi_pvalloc", allocations, size); }
int mi_posix_memalign(void** p, std::size_t to, std::size_t size) {
  return forward<int>("mi_posix_memalign", allocations, p, to, size);
}

void* mmap(void* at, std::size_t size, int protection, int flags, int file, off_t offset) {
  return forward<void*>("mmap", pages, at, size, protection, flags, file, offset);
}
void* mmap64(void* at, std::size_t size, int protection, int flags, int file, off64_t offset) {
  return forward<void*>("mmap64", pages, at, size, protection, flags, file, offset);
}
int brk(void* end) { return forward<int>("brk", pages, end); }
void* sbrk(std::ptrdiff_t by) { return forward<void*>("sbrk", pages, by); }
}
