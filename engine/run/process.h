// Costs of the process itself: heap allocations and memory outside the arenas.
#pragma once
#include <cstddef>
#include <cstdint>

#include "arena/bytes.h"

namespace neurogen {

// Heap limit of neurogen-engine; beyond it the program ends with one sentence and status 1. Part of the overhead allowance, and a
// line of the plan. It has room for a tokenizer of 65,536 pieces; larger ones add to it.
inline constexpr Bytes kHeapCap = 64'000'000;
inline constexpr std::int64_t kUsualVocabulary = 65'536;
inline constexpr Bytes kHeapOfPiece = 384;  // all that a run holds of a piece of byte-level BPE and its merge (tests/allocation)
// The limit for a model, or a tokenizer, of this vocabulary.
Bytes heap_cap(std::int64_t vocabulary);

// Counts of the whole process, kept by a program that replaces the allocator (tools/neurogen-engine/heap.cpp), else 0.
struct HeapCounters {
  std::uint64_t allocations = 0;         // calls of malloc, calloc, realloc, new and the like by all libraries but the GPU driver
  std::uint64_t driver_allocations = 0;  // calls by the GPU driver (libcuda), which cannot be prevented
  std::uint64_t live_bytes = 0;          // allocated by all and not freed
};
HeapCounters heap_counters();
// Registers a counting allocator at program start: its counts, and how to set its cap.
void set_heap_counters(HeapCounters (*source)(), void (*cap)(Bytes) = nullptr);

// While alive, the heap may hold `by` more bytes, or has no cap; afterwards the cap is what it was. A GPU is started without a cap:
// the driver and cuBLAS unpack their code into our heap, how much depends on their version. The cap then grows by what they hold.
class HeapCapLifted {
 public:
  static constexpr Bytes kNoCap = UINT64_MAX;
  explicit HeapCapLifted(Bytes by = kNoCap);
  ~HeapCapLifted();
  HeapCapLifted(const HeapCapLifted&) = delete;
  HeapCapLifted& operator=(const HeapCapLifted&) = delete;

 private:
  Bytes before_, by_, held_;
};
// For good. Not while the cap is lifted.
void raise_heap_cap(Bytes by);

// Resident anonymous memory of the process (RssAnon of /proc/self/status), 0 if the system does not report it. Allocates nothing.
Bytes resident_anonymous_bytes();

// Bytes of a copy-on-write file mapping whose pages are now the process's own; 0 if the system does not report it. `begin` is a
// multiple of the page size. Allocates nothing.
Bytes copied_bytes(const std::byte* begin, Bytes bytes);

}  // namespace neurogen
