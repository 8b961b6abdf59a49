#include "engine/run/process.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace neurogen {
namespace {
HeapCounters (*counters)() = nullptr;
void (*move_cap)(Bytes) = nullptr;
}  // namespace

HeapCounters heap_counters() { return counters ? counters() : HeapCounters{}; }
void set_heap_counters(HeapCounters (*source)(), void (*cap)(Bytes)) {
  counters = source;
  move_cap = cap;
}

HeapCapLifted::HeapCapLifted() {
  if (move_cap) move_cap(UINT64_MAX);
}
HeapCapLifted::~HeapCapLifted() {
  if (move_cap) move_cap(heap_counters().live_bytes + kHeapCap);
}

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

}  // namespace neurogen
