// What the run itself costs: allocations since the seal, memory outside the arenas.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "arena/bytes.h"

namespace neurogen {

// The sentence where an allocation fails.
inline constexpr std::string_view kOutOfMemory = "out of memory: close other programs, or use a smaller --budget or a shorter text";

// The most that the heap of neurogen-engine may hold; past it the program ends with one sentence and status 1. Part of the
// overhead allowance, and a line of the plan.
inline constexpr Bytes kHeapCap = 64'000'000;

// Counts of a whole process, filled by a program that replaces the allocator (tools/neurogen-engine/heap.cpp) and 0 in one
// that does not.
struct HeapCounters {
  std::uint64_t allocations = 0;         // calls of malloc, calloc, realloc, new and their kin so far, by any library but
  std::uint64_t driver_allocations = 0;  // those of a GPU's driver (libcuda), which nobody can keep from it
  std::uint64_t live_bytes = 0;          // given out to all and not given back
};
HeapCounters heap_counters();
// A program with a counting allocator names it here, first thing: its counts, and how to move its cap.
void set_heap_counters(HeapCounters (*source)(), void (*cap)(Bytes) = nullptr);

// While one lives, the heap may hold `by` more, or has no cap; from its end on, kHeapCap beside what is held then. Without a cap
// around the start of a GPU: the driver and cuBLAS unpack their code into our heap, more or less of it from version to version.
class HeapCapLifted {
 public:
  static constexpr Bytes kNoCap = UINT64_MAX;
  explicit HeapCapLifted(Bytes by = kNoCap);
  ~HeapCapLifted();
  HeapCapLifted(const HeapCapLifted&) = delete;
  HeapCapLifted& operator=(const HeapCapLifted&) = delete;
};

// Anonymous memory that the process really holds at this moment (RssAnon of /proc/self/status), 0 where the system does not
// say. Allocates nothing.
Bytes resident_anonymous_bytes();

// Of memory that was mapped from a file copy-on-write, the pages that are the process's own by now; 0 where the system does not
// say. `begin` is a multiple of the page size. Allocates nothing.
Bytes copied_bytes(const std::byte* begin, Bytes bytes);

}  // namespace neurogen
