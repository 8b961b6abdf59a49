#include <time.h>

#include <atomic>

#include "arena/error.h"
#include "kernels/base/shared_ranks.h"

namespace neurogen {
namespace {

using Counter = std::atomic<std::uint32_t>;
static_assert(Counter::is_always_lock_free, "ranks in several processes share it");

constexpr Bytes kLine = 64;
constexpr int kSpins = 2000;  // before a rank sleeps: std::atomic's own waiting is for threads of one process

}  // namespace

Bytes SharedRanks::bytes_needed(int size, Bytes most) {
  return kFront + static_cast<Bytes>(size) * ((std::max<Bytes>(most, 1) + kLine - 1) / kLine * kLine);
}

SharedRanks::SharedRanks(std::byte* memory, Bytes bytes, int rank, int size)
    : memory_(memory),
      rank_(rank),
      size_(size),
      most_(bytes > kFront && size > 0 ? (bytes - kFront) / static_cast<Bytes>(size) / kLine * kLine : 0) {
  if (most_ == 0 || rank < 0 || rank >= size) throw Error("ranks need memory to share: give SharedRanks::bytes_needed");
}

void SharedRanks::barrier() {
  Counter& arrived = *reinterpret_cast<Counter*>(memory_);
  Counter& generation = *reinterpret_cast<Counter*>(memory_ + kLine);
  const std::uint32_t now = generation.load(std::memory_order_acquire);
  if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<std::uint32_t>(size_)) {
    arrived.store(0, std::memory_order_relaxed);
    generation.store(now + 1, std::memory_order_release);
    return;
  }
  for (int spins = 0; generation.load(std::memory_order_acquire) == now; ++spins) {
    constexpr timespec kNap{0, 50'000};
    if (spins >= kSpins) nanosleep(&kNap, nullptr);
  }
}

SharedRanks& CpuDevice::ranks() const {
  if (!ranks_) throw Error("an operation among ranks runs on a device that has none: call use_ranks first");
  return *ranks_;
}

}  // namespace neurogen
