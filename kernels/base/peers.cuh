#pragma once
#include <cuda/atomic>

#include "kernels/base/gpu_ranks.cuh"
#include "kernels/base/peers.h"

namespace neurogen {

inline constexpr int kPeerBlocks = 64;  // most blocks of an operation

// A kernel's view of all ranks.
struct AllPeers {
  int rank, size;
  std::ptrdiff_t distance[Peers::kMost];  // bytes from a tensor here to that of another rank; 0 for its own
  std::uint32_t* arrived[Peers::kMost];   // each rank's counters [kPeerBlocks, kMost]: how often a rank's block has met this block
  std::uint32_t* meetings;                // [kPeerBlocks] how often a block has met those of the others

  template <typename T>
  __device__ T* at(T* mine, int of) const {
    return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(mine) + static_cast<std::uintptr_t>(distance[of]));
  }

  // Blocks of one number on all ranks wait for each other. What a block has written before, anywhere, the others see behind it.
  __device__ void meet() const {
    using Counter = cuda::atomic_ref<std::uint32_t, cuda::thread_scope_system>;
    __syncthreads();
    const auto other = static_cast<int>(threadIdx.x);
    const std::uint32_t now = meetings[blockIdx.x] + 1;
    if (other < size && other != rank) {
      Counter(arrived[other][blockIdx.x * Peers::kMost + rank]).store(now, cuda::memory_order_release);
      const Counter its(arrived[rank][blockIdx.x * Peers::kMost + other]);
      while (static_cast<std::int32_t>(its.load(cuda::memory_order_acquire) - now) < 0) {
      }
    }
    __syncthreads();
    if (threadIdx.x == 0) meetings[blockIdx.x] = now;
    __syncthreads();
  }
};

struct Peers::Native : GpuRanks {
  using GpuRanks::GpuRanks;
  ~Native();

  AllPeers all{};
  bool clusters = false;  // the GPU has clusters of blocks
  Block counters;
  void* mapped[2 * kMost] = {};  // others' memory
  const std::byte* arena = nullptr;
  Bytes arena_bytes = 0;
};

}  // namespace neurogen
