#include "engine/run/process.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace neurogen {
namespace {
HeapCounters (*counters)() = nullptr;
void (*move_cap)(Bytes) = nullptr;
Bytes cap = kHeapCap;

void set_cap(Bytes bytes) {
  cap = bytes;
  if (move_cap) move_cap(bytes);
}
}  // namespace

Bytes heap_cap(std::int64_t vocabulary) {
  return kHeapCap + kHeapOfPiece * static_cast<Bytes>(std::max<std::int64_t>(0, vocabulary - kUsualVocabulary));
}

HeapCounters heap_counters() { return counters ? counters() : HeapCounters{}; }
void set_heap_counters(HeapCounters (*source)(), void (*cap)(Bytes)) {
  counters = source;
  move_cap = cap;
}

HeapCapLifted::HeapCapLifted(Bytes by) : before_(cap), by_(by), held_(heap_counters().live_bytes) {
  set_cap(by == kNoCap ? kNoCap : cap + by);
}
HeapCapLifted::~HeapCapLifted() {
  const Bytes held = heap_counters().live_bytes;
  set_cap(by_ == kNoCap && held > held_ ? before_ + held - held_ : before_);
}
void raise_heap_cap(Bytes by) { set_cap(cap + by); }

Bytes resident_anonymous_bytes() {
  const int file = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  char text[8192];
  const ssize_t size = ::read(file, text, sizeof text - 1);
  ::close(file);
  if (size <= 0) return 0;
  text[size] = '\0';
  const char* line = std::strstr(text, "RssAnon:");
  return line ? std::strtoull(line + 8, nullptr, 10) * 1024 : 0;
}

// One word per page: bit 63 present, 62 swapped, 61 file-backed (Linux, Documentation/admin-guide/mm/pagemap.rst).
Bytes copied_bytes(const std::byte* begin, Bytes bytes) {
  static constexpr Bytes kPage = 4096;
  const int file = ::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  std::uint64_t words[512];
  Bytes copied = 0;
  const Bytes first = reinterpret_cast<std::uintptr_t>(begin) / kPage, end = first + bytes / kPage;
  for (Bytes page = first; page < end;) {
    const ssize_t got = ::pread(file, words, std::min<Bytes>(sizeof words, (end - page) * sizeof words[0]),
                                static_cast<off_t>(page * sizeof words[0]));
    if (got < static_cast<ssize_t>(sizeof words[0])) break;
    const auto count = static_cast<Bytes>(got) / sizeof words[0];
    for (Bytes i = 0; i < count; ++i) copied += (words[i] >> 61 & 7) == 4 || (words[i] >> 62 & 1) ? kPage : 0;
    page += count;
  }
  ::close(file);
  return copied;
}

}  // namespace neurogen
