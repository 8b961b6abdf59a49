// Ranks on GPUs of one host that NVLink connects. Each maps the arenas of the others (CUDA IPC), so that its kernels read and write
// them: nothing is copied into buffers in between, and no memory is taken but a few counters.
#pragma once
#include <array>
#include <functional>
#include <memory>
#include <span>

#include "arena/block.h"

namespace neurogen {

class Peers {
 public:
  static constexpr int kMost = 8;  // ranks

  // Where a rank is: a host that is up, and one of its GPUs.
  struct Card {
    std::array<char, 64> host{};
    std::array<char, 32> bus{};
  };
  static Card card(int ordinal);
  // Whether GPU `ordinal` reaches those of all ranks. Creates no context. Peers are for ranks that all do.
  static bool reaches(int ordinal, std::span<const Card> all);

  // Whether all of this machine's first `gpus` reach each other.
  static bool linked(int gpus);

  // Collects equally many bytes of each rank on all of them, in their order.
  using Gather = std::function<void(std::span<const std::byte> mine, std::span<std::byte> all)>;
  // `arena` is this rank's, on the GPU that is current in this thread: one block, of equal size on all ranks. Operations take
  // tensors in it that lie at equal offsets on all ranks. It must outlive this object, and this object every program that uses
  // it. Returns when all ranks have called it. Throws Error if CUDA maps no memory of another process.
  Peers(int rank, int size, const Block& arena, const Gather& gather);
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  // CUDA's own handles, only for kernels/*.cu (peers.cuh).
  struct Native;
  Native& native() { return *native_; }

 private:
  std::unique_ptr<Native> native_;
};

}  // namespace neurogen
