// The program's allocator: mimalloc, with every call counted, whoever makes it. Functions that an executable defines under
// these names are used by all shared libraries too, so that nothing escapes the count but what maps memory by itself.
#include <mimalloc.h>

#include <atomic>
#include <cerrno>
#include <new>

#include "engine/run/process.h"

namespace {
std::atomic<std::uint64_t> allocations{0};

void count() { allocations.fetch_add(1, std::memory_order_relaxed); }
}  // namespace

namespace neurogen {
HeapCounters counted_heap() { return {allocations.load(std::memory_order_relaxed)}; }
}  // namespace neurogen

extern "C" {
void* malloc(std::size_t size) { return count(), mi_malloc(size); }
void* calloc(std::size_t items, std::size_t size) { return count(), mi_calloc(items, size); }
void* realloc(void* block, std::size_t size) { return count(), mi_realloc(block, size); }
void* reallocarray(void* block, std::size_t items, std::size_t size) { return count(), mi_reallocarray(block, items, size); }
void free(void* block) { mi_free(block); }
void cfree(void* block) { mi_free(block); }
void* aligned_alloc(std::size_t alignment, std::size_t size) { return count(), mi_aligned_alloc(alignment, size); }
void* memalign(std::size_t alignment, std::size_t size) { return count(), mi_memalign(alignment, size); }
void* valloc(std::size_t size) { return count(), mi_valloc(size); }
void* pvalloc(std::size_t size) { return count(), mi_pvalloc(size); }
int posix_memalign(void** block, std::size_t alignment, std::size_t size) {
  return count(), mi_posix_memalign(block, alignment, size);
}
std::size_t malloc_usable_size(void* block) { return mi_usable_size(block); }
}

namespace {
// mimalloc 2.0.9 aborts in its own operator new; ours keeps C++'s promise.
void* allocate(std::size_t size) {
  count();
  if (void* block = mi_malloc(size)) return block;
  throw std::bad_alloc();
}
void* allocate(std::size_t size, std::align_val_t alignment) {
  count();
  if (void* block = mi_malloc_aligned(size, static_cast<std::size_t>(alignment))) return block;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, std::align_val_t alignment) { return allocate(size, alignment); }
void* operator new[](std::size_t size, std::align_val_t alignment) { return allocate(size, alignment); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return count(), mi_malloc(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return count(), mi_malloc(size); }
void operator delete(void* block) noexcept { mi_free(block); }
void operator delete[](void* block) noexcept { mi_free(block); }
void operator delete(void* block, std::size_t) noexcept { mi_free(block); }
void operator delete[](void* block, std::size_t) noexcept { mi_free(block); }
void operator delete(void* block, std::align_val_t) noexcept { mi_free(block); }
void operator delete[](void* block, std::align_val_t) noexcept { mi_free(block); }
void operator delete(void* block, std::size_t, std::align_val_t) noexcept { mi_free(block); }
void operator delete[](void* block, std::size_t, std::align_val_t) noexcept { mi_free(block); }
void operator delete(void* block, const std::nothrow_t&) noexcept { mi_free(block); }
void operator delete[](void* block, const std::nothrow_t&) noexcept { mi_free(block); }
