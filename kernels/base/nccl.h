// NCCL, through which ranks with a GPU each exchange. It is loaded when the first communicator is made: a run on one GPU needs
// none.
#pragma once
#include <algorithm>
#include <array>
#include <memory>
#include <string>

#include "arena/bytes.h"

namespace neurogen {

// Names one communicator to all its ranks. Holds the address at which the rank that made it listens.
using NcclId = std::array<std::byte, 128>;

// Pieces that an operation is cut into, each with buffers, and a block of threads that has a multiprocessor to itself: as many as
// an H200's links need.
constexpr int nccl_channels(int multiprocessors) { return std::clamp(multiprocessors / 8, 2, 16); }
// The most that a communicator takes of a GPU's memory (measured with NCCL 2.28.9 on an H200, which has 132 multiprocessors: 757 MB
// with 8 channels): its code; a stack of 1,976 bytes for each of the 2,048 threads that a multiprocessor can run at once, which the
// driver reserves for all; and for each channel the buffers of a ring.
constexpr Bytes nccl_bytes(int multiprocessors) {
  return (Bytes{64} + Bytes{4} * static_cast<Bytes>(multiprocessors) +
          Bytes{18} * static_cast<Bytes>(nccl_channels(multiprocessors)))
         << 20;
}

class Nccl {
 public:
  // Throw Error if the library is missing or older than 2.18.
  static NcclId new_id();  // made by one rank, and passed to all
  static std::string version();

  // A communicator of `size` ranks, each with the GPU that is current in its thread, on which a context is. Returns when all have
  // called it and every kind of operation has run once, so that later ones allocate nothing. The order of operations is equal on
  // all ranks. Must outlive every program that uses it. Throws Error if NCCL fails.
  Nccl(const NcclId& id, int rank, int size);
  ~Nccl();
  Nccl(const Nccl&) = delete;
  Nccl& operator=(const Nccl&) = delete;

  Bytes gpu_bytes() const;  // taken of the GPU's memory

  // NCCL's own handles, only for kernels/*.cu (nccl.cuh).
  struct Native;
  Native& native() { return *native_; }

 private:
  std::unique_ptr<Native> native_;
};

}  // namespace neurogen
