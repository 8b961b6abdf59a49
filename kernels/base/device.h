// The CPU as a device: its threads, each ready to call the matrix library.
#pragma once
#include "kernels/base/thread_pool.h"

namespace neurogen {

// The GPU as a device (cuda_device.h). Every operation is declared for both; a build without CUDA defines only the CPU's.
class CudaDevice;
class SharedRanks;  // shared_ranks.h

class CpuDevice : public ThreadPool {
 public:
  // 0 threads: one per core that this process may run on. Loads the matrix library and lets every thread call it once, so that
  // later calls allocate nothing. Throws Error if the library is missing.
  explicit CpuDevice(int threads = 0);

  // With several ranks, operations among them (kernels/all_ranks.h) go through `ranks`, which must outlive them.
  void use_ranks(SharedRanks& ranks) { ranks_ = &ranks; }
  bool has_ranks() const { return ranks_ != nullptr; }
  SharedRanks& ranks() const;  // throws Error if it has none

 private:
  SharedRanks* ranks_ = nullptr;
};

}  // namespace neurogen
