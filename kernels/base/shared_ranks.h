// Several ranks on one machine's CPUs, which exchange through memory that all of them share: for tests, and for machines without
// GPUs. One process a rank (or one thread, in tests).
#pragma once
#include <algorithm>
#include <cstring>

#include "arena/bytes.h"
#include "kernels/base/device.h"

namespace neurogen {

class SharedRanks {
 public:
  // Bytes of the memory for `size` ranks, each of which passes on `most` bytes at a time; larger tensors go in pieces.
  static Bytes bytes_needed(int size, Bytes most);
  // `memory` is shared by all ranks, aligned to 64 bytes, zero before the first rank uses it, and must outlive this object. The
  // numbers must be those of bytes_needed on every rank; rank in [0, size). Throws Error if the memory is too small.
  SharedRanks(std::byte* memory, Bytes bytes, int rank, int size);
  SharedRanks(const SharedRanks&) = delete;
  SharedRanks& operator=(const SharedRanks&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  // Returns when all ranks have called it. Waits for ever for one that has ended.
  void barrier();

  // Passes `bytes` of every rank, as many on each, to all: calls use(begin, count), in which of(rank) holds the bytes [begin, begin
  // + count) of that rank, for one piece after another. A piece begins at a multiple of 64 bytes.
  template <typename Use>
  void exchange(const void* mine, Bytes bytes, Use&& use) {
    for (Bytes begin = 0; begin < bytes; begin += most_) {
      const Bytes count = std::min(most_, bytes - begin);
      std::memcpy(slot(rank_), static_cast<const std::byte*>(mine) + begin, count);
      barrier();
      use(begin, count);
      barrier();  // nobody fills the slots again before all have used them
    }
  }
  const std::byte* of(int rank) const { return slot(rank); }

 private:
  std::byte* slot(int rank) const { return memory_ + kFront + static_cast<Bytes>(rank) * most_; }

  static constexpr Bytes kFront = 128;  // the barrier's two counters, a cache line each
  std::byte* memory_;
  int rank_, size_;
  Bytes most_;
};

}  // namespace neurogen
