// Preloaded into an engine, counts calls that go through the dynamic linker: those of its allocator to mimalloc, and requests for
// pages by functions of the C library. At exit writes the count of each kind to the file $NEUROGEN_COUNTS, in the order of kNames.
//
// $NEUROGEN_FAIL = "new 17" makes the 17th call of a kind fail as if memory had run out, "new 17+" that one and all that follow.
// "new" is our code, with the parts of the C++ library and of SentencePiece that it calls; "malloc" is only libraries, since we
// never call it; "pages" is mmap and similar calls for our blocks, files and mimalloc; "openblas" is mmap by that library.
//
// A build with AddressSanitizer, whose heap is not mimalloc, has only "new" and "pages".
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

namespace {

enum Kind { by_new, by_malloc, for_pages, by_openblas, kKinds };
constexpr const char* kNames[kKinds] = {"new", "malloc", "pages", "openblas"};
std::atomic<unsigned long> counts[kKinds];

struct Failure {
  Kind kind = kKinds;
  unsigned long first = 0, last = 0;
};

Failure wanted_failure() {
  const char* text = std::getenv("NEUROGEN_FAIL");
  if (text == nullptr) return {};
  char name[9] = "", plus = ' ';
  Failure failure;
  if (std::sscanf(text, "%8s %lu%c", name, &failure.first, &plus) < 2) std::abort();
  failure.last = plus == '+' ? ~0ul : failure.first;
  for (int k = 0; k < kKinds; ++k) {
    if (std::strcmp(name, kNames[k]) == 0) failure.kind = static_cast<Kind>(k);
  }
  return failure.kind == kKinds ? std::abort(), failure : failure;
}

// Distinguishes by caller: the allocator's operator new and its malloc both end in mi_malloc.
Kind ask(const void* caller, bool pages) {
  Dl_info info;
  const bool known = dladdr(caller, &info) != 0;
  if (pages) return known && std::strstr(info.dli_fname, "openblas") != nullptr ? by_openblas : for_pages;
  return known && info.dli_sname != nullptr && std::strncmp(info.dli_sname, "_Zn", 3) == 0 ? by_new : by_malloc;
}

Kind kind_of(const void* caller, bool pages = false) {
  static std::atomic<const void*> callers[64];  // cached, since dladdr takes longer than allocating
  static std::atomic<Kind> kinds[64];
  static std::atomic<int> size{0};
  const int n = size.load(std::memory_order_acquire);
  for (int i = 0; i < n; ++i) {
    if (callers[i] == caller) return kinds[i];
  }
  const Kind kind = ask(caller, pages);
  static std::atomic_flag busy;
  if (!busy.test_and_set(std::memory_order_acquire)) {  // otherwise another thread is storing its answer, and this one is looked up
                                                        // again next time
    if (const int at = size.load(); at < 64) {
      callers[at] = caller, kinds[at] = kind;
      size.store(at + 1, std::memory_order_release);
    }
    busy.clear(std::memory_order_release);
  }
  return kind;
}

bool fails(Kind kind) {
  if (environ == nullptr) return false;  // a sanitizer requests pages before the C library has started
  static const Failure failure = wanted_failure();
  const unsigned long k = ++counts[kind];
  if (kind != failure.kind || k < failure.first || k > failure.last) return false;
  errno = ENOMEM;
  return true;
}

template <typename Result, typename... Arguments>
Result forward(const char* name, Kind kind, Result failed, Arguments... arguments) {
  if (fails(kind)) return failed;
  return reinterpret_cast<Result (*)(Arguments...)>(dlsym(RTLD_NEXT, name))(arguments...);
}

template <typename... Arguments>
void* block(const char* name, const void* caller, Arguments... arguments) {
  return forward<void*>(name, kind_of(caller), nullptr, arguments...);
}

__attribute__((destructor)) void write_counts() {
  const char* path = std::getenv("NEUROGEN_COUNTS");
  const int file = path == nullptr ? -1 : ::open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file < 0) return;
  char text[96];
  const int size = std::snprintf(text, sizeof text, "%lu %lu %lu %lu\n", counts[by_new].load(), counts[by_malloc].load(),
                                 counts[for_pages].load(), counts[by_openblas].load());
  if (::write(file, text, static_cast<std::size_t>(size)) != size) std::abort();
  ::close(file);
}

}  // namespace

#define CALLER __builtin_return_address(0)

extern "C" {
void* mi_malloc(std::size_t size) { return block("mi_malloc", CALLER, size); }
void* mi_calloc(std::size_t n, std::size_t size) { return block("mi_calloc", CALLER, n, size); }
void* mi_realloc(void* p, std::size_t size) { return block("mi_realloc", CALLER, p, size); }
void* mi_malloc_aligned(std::size_t size, std::size_t to) { return block("mi_malloc_aligned", CALLER, size, to); }
void* mi_aligned_alloc(std::size_t to, std::size_t size) { return block("mi_aligned_alloc", CALLER, to, size); }
void* mi_memalign(std::size_t to, std::size_t size) { return block("mi_memalign", CALLER, to, size); }
void* mi_valloc(std::size_t size) { return block("mi_valloc", CALLER, size); }
void* mi_pvalloc(std::size_t size) { return block("mi_pvalloc", CALLER, size); }
int mi_posix_memalign(void** p, std::size_t to, std::size_t size) {
  return forward<int>("mi_posix_memalign", by_malloc, ENOMEM, p, to, size);
}

void* mmap(void* at, std::size_t size, int protection, int flags, int file, off_t offset) {
  return forward<void*>("mmap", kind_of(CALLER, true), MAP_FAILED, at, size, protection, flags, file, offset);
}
void* mmap64(void* at, std::size_t size, int protection, int flags, int file, off64_t offset) {
  return forward<void*>("mmap64", kind_of(CALLER, true), MAP_FAILED, at, size, protection, flags, file, offset);
}
int brk(void* end) { return forward<int>("brk", for_pages, -1, end); }
void* sbrk(std::ptrdiff_t by) { return forward<void*>("sbrk", for_pages, MAP_FAILED, by); }
}

#ifdef NEUROGEN_SANITIZE_ADDRESS
void* operator new(std::size_t size) {
  void* const block = forward<void*>("_Znwm", by_new, nullptr, size);
  return block != nullptr ? block : throw std::bad_alloc();
}
#endif
