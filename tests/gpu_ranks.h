// Ranks with a GPU each, for tests. Their suites are named *DeathTest, which GoogleTest runs first: a process that has used CUDA
// may not fork processes that do.
#pragma once
#include "kernels/base/cuda_device.h"
#include "kernels/base/nccl.h"
#include "kernels/base/peers.h"
#include "tests/ranks.h"

namespace neurogen {

// Asked in a process of its own.
inline int gpus_here() {
  const auto count = in_processes(1, [](int) { return bytes_of(std::vector<int>{CudaDevice::count()}); });
  return count.empty() ? 0 : values_of<int>(count[0])[0];
}

// Made by the first rank, for all.
inline NcclId shared_id(SharedRanks& ranks) {
  NcclId id{};
  if (ranks.rank() == 0) id = Nccl::new_id();
  ranks.exchange(id.data(), id.size(), [&](Bytes, Bytes) { std::memcpy(id.data(), ranks.of(0), id.size()); });
  return id;
}

// Collects equally many bytes of all ranks.
inline Peers::Gather gather_of(SharedRanks& ranks) {
  return [&ranks](std::span<const std::byte> mine, std::span<std::byte> all) {
    ranks.exchange(mine.data(), mine.size(), [&](Bytes begin, Bytes count) {
      for (int rank = 0; rank < ranks.size(); ++rank)
        std::memcpy(all.data() + static_cast<std::size_t>(rank) * mine.size() + begin, ranks.of(rank), count);
    });
  };
}

class TwoGpus : public testing::Test {
 protected:
  void SetUp() override {
    if (gpus_here() < 2) GTEST_SKIP() << "there are not two GPUs here";
  }
};

}  // namespace neurogen
