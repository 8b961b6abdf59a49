// The program's heap: mimalloc under a hard cap, with every call counted, whoever makes it. All shared libraries use the functions
// that an executable defines under these names.
//
// Inside the cap: every block from malloc, new and similar calls, ours and the libraries', at its real size. Outside: memory that
// libraries map themselves (OpenBLAS's work buffers, thread stacks, files), code, and mimalloc's reserve; after start-up all of it
// is measured against the allowance (--overhead).
//
// A fixed region given to mimalloc (mi_manage_os_memory) does not work: Debian's 2.0.9 hands it out in pieces of 32 MiB, at least
// one per allocating thread, so 64 MB would serve two threads; a region with an unaligned base silently holds nothing; and
// mimalloc's operator new aborts instead of throwing. Counting bytes is exact and avoids all this.
//
// When the system has no memory, operator new throws, as C++ promises, and the program ends with one sentence in the usual way.
// Only libraries call malloc, and several crash on a null pointer (CUDA's before main, OpenBLAS) or print their own message
// (libgfortran). So a failed malloc ends the program at once with the same sentence, and so does a failed new in SentencePiece,
// whose protobuf crashes when an exception destroys a half-made message. Memory that libraries map past both cannot be guarded:
// glibc's for thread stacks and code, and OpenBLAS's for its buffers, which retries for ever if memory was there when
// kernels/base/openblas_cpu.cpp tried and is gone later.
//
// Allocations by a GPU's driver are counted separately: those requested by its code, and those of its own threads, which have no
// account.
//
// A sanitizer has its own allocator and replaces all this: nothing is counted then.
#include <cstdlib>
#include <new>
#include <utility>

#include "arena/allocations.h"
#include "engine/run/process.h"
#include "tools/common/out_of_memory.h"

namespace {

void catch_all() { neurogen::expect_no_memory("neurogen-engine"); }
[[gnu::section(".preinit_array"), gnu::used]] void (*const before_all_constructors)() = catch_all;

}  // namespace

#ifdef NEUROGEN_SANITIZE
namespace neurogen {
HeapCounters counted_heap() { return {}; }
void cap_heap(Bytes) {}
}  // namespace neurogen
#else

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>
#include <mimalloc.h>

#include <atomic>
#include <cerrno>
#include <cstring>

namespace {

std::atomic<std::uint64_t> allocations{0}, driver_allocations{0}, live_bytes{0}, cap{neurogen::kHeapCap};

// The address range of a loaded library's code, by the start of its file name; empty if it is not loaded.
struct Code {
  std::uintptr_t first = 0, last = 0;
};
Code code_of(const char* name) {
  struct Search {
    const char* name;
    Code found;
  } search{name, {}};
  dl_iterate_phdr(
      [](dl_phdr_info* library, std::size_t, void* data) {
        Search& wanted = *static_cast<Search*>(data);
        const char* const slash = std::strrchr(library->dlpi_name, '/');
        if (std::strncmp(slash ? slash + 1 : library->dlpi_name, wanted.name, std::strlen(wanted.name)) != 0) return 0;
        for (int i = 0; i < library->dlpi_phnum; ++i) {
          const ElfW(Phdr)& part = library->dlpi_phdr[i];
          if (part.p_type != PT_LOAD || (part.p_flags & PF_X) == 0) continue;
          wanted.found.first = library->dlpi_addr + part.p_vaddr;
          wanted.found.last = wanted.found.first + part.p_memsz;
        }
        return 1;
      },
      &search);
  return search.found;
}

// The code of a GPU's driver library, once it is loaded.
std::atomic<std::uintptr_t> driver_begin{0}, driver_end{0};

void find_driver() {
  if (driver_end.load(std::memory_order_relaxed) != 0) return;
  const Code code = code_of("libcuda.so");
  driver_begin.store(code.first, std::memory_order_relaxed);
  driver_end.store(code.last, std::memory_order_relaxed);
}

// Under compute-sanitizer there is no cap, since it keeps its records on the program's heap.
bool has_sanitizer() {
  static const bool found = code_of("libsanitizer-collection.so").last != 0;
  return found;
}

[[noreturn]] void end_at_the_cap(std::uint64_t most) {
  static char text[200];  // nothing here allocates: so short a number is within its string
  const auto sentence = fmt::format_to_n(
      text, sizeof text,
      "the heap has reached its cap of {} bytes: use smaller files, and make tokens of large texts first (corpus tokenize)",
      neurogen::with_commas(most));
  neurogen::end_program({text, sentence.size});
}

void* counted(void* block, const void* caller) {
  const auto at = reinterpret_cast<std::uintptr_t>(caller);
  const std::uintptr_t first = driver_begin.load(std::memory_order_relaxed), last = driver_end.load(std::memory_order_relaxed);
  const bool by_driver = last != 0 && ((at >= first && at < last) || neurogen::allocation_account == nullptr);
  (by_driver ? driver_allocations : allocations).fetch_add(1, std::memory_order_relaxed);
  if (!block) return block;
  const std::uint64_t size = mi_usable_size(block);
  const std::uint64_t most = cap.load(std::memory_order_relaxed);
  if (live_bytes.fetch_add(size, std::memory_order_relaxed) + size > most && !has_sanitizer()) end_at_the_cap(most);
  return block;
}

void release(void* block) {
  if (!block) return;
  live_bytes.fetch_sub(mi_usable_size(block), std::memory_order_relaxed);
  mi_free(block);
}

void* moved(void* old, std::size_t size, const void* caller) {
  const std::uint64_t before = old ? mi_usable_size(old) : 0;
  void* block = mi_realloc(old, size);
  if (!block && size > 0) neurogen::end_program(neurogen::kOutOfMemory);
  live_bytes.fetch_sub(before, std::memory_order_relaxed);
  return counted(block, caller);
}

thread_local bool throwing = false;

// Keeps C++'s promise: a block or an exception.
void* promised(void* block, const void* caller) {
  if (counted(block, caller)) return block;
  Dl_info info;
  if (dladdr(caller, &info) != 0 && std::strstr(info.dli_fname, "sentencepiece") != nullptr)
    neurogen::end_program(neurogen::kOutOfMemory);
  throwing = true;
  throw std::bad_alloc();
}

// For libraries' mallocs. Only an exception being thrown may fail here: the C++ library keeps room for some.
void* required(void* block, const void* caller) {
  if (!block && !std::exchange(throwing, false)) neurogen::end_program(neurogen::kOutOfMemory);
  return counted(block, caller);
}

}  // namespace

namespace neurogen {
HeapCounters counted_heap() {
  find_driver();
  return {allocations.load(std::memory_order_relaxed), driver_allocations.load(std::memory_order_relaxed),
          live_bytes.load(std::memory_order_relaxed)};
}
void cap_heap(Bytes bytes) { cap.store(bytes, std::memory_order_relaxed); }
}  // namespace neurogen

#define CALLER __builtin_return_address(0)

extern "C" {
void* malloc(std::size_t size) { return required(mi_malloc(size), CALLER); }
void* calloc(std::size_t items, std::size_t size) { return required(mi_calloc(items, size), CALLER); }
void* realloc(void* block, std::size_t size) { return moved(block, size, CALLER); }
void* reallocarray(void* block, std::size_t items, std::size_t size) {
  std::size_t bytes;
  return __builtin_mul_overflow(items, size, &bytes) ? nullptr : moved(block, bytes, CALLER);
}
void free(void* block) { release(block); }
void cfree(void* block) { release(block); }
void* aligned_alloc(std::size_t alignment, std::size_t size) { return required(mi_aligned_alloc(alignment, size), CALLER); }
void* memalign(std::size_t alignment, std::size_t size) { return required(mi_memalign(alignment, size), CALLER); }
void* valloc(std::size_t size) { return required(mi_valloc(size), CALLER); }
void* pvalloc(std::size_t size) { return required(mi_pvalloc(size), CALLER); }
int posix_memalign(void** block, std::size_t alignment, std::size_t size) {
  const int error = mi_posix_memalign(block, alignment, size);
  if (error == ENOMEM) neurogen::end_program(neurogen::kOutOfMemory);
  counted(error ? nullptr : *block, CALLER);
  return error;
}
std::size_t malloc_usable_size(void* block) { return mi_usable_size(block); }
}

void* operator new(std::size_t size) { return promised(mi_malloc(size), CALLER); }
void* operator new[](std::size_t size) { return promised(mi_malloc(size), CALLER); }
void* operator new(std::size_t size, std::align_val_t a) {
  return promised(mi_malloc_aligned(size, static_cast<std::size_t>(a)), CALLER);
}
void* operator new[](std::size_t size, std::align_val_t a) {
  return promised(mi_malloc_aligned(size, static_cast<std::size_t>(a)), CALLER);
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return counted(mi_malloc(size), CALLER); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return counted(mi_malloc(size), CALLER); }
void operator delete(void* block) noexcept { release(block); }
void operator delete[](void* block) noexcept { release(block); }
void operator delete(void* block, std::size_t) noexcept { release(block); }
void operator delete[](void* block, std::size_t) noexcept { release(block); }
void operator delete(void* block, std::align_val_t) noexcept { release(block); }
void operator delete[](void* block, std::align_val_t) noexcept { release(block); }
void operator delete(void* block, std::size_t, std::align_val_t) noexcept { release(block); }
void operator delete[](void* block, std::size_t, std::align_val_t) noexcept { release(block); }
void operator delete(void* block, const std::nothrow_t&) noexcept { release(block); }
void operator delete[](void* block, const std::nothrow_t&) noexcept { release(block); }

#endif
