// The CPU as a device: its threads, each with the matrix library at hand.
#pragma once
#include "kernels/thread_pool.h"

namespace neurogen {

// The GPU as a device (cuda_device.h). Every operation is declared for both; a build without CUDA defines none for it.
class CudaDevice;

class CpuDevice : public ThreadPool {
 public:
  // 0 threads: one for each core this process may run on. Loads the matrix library and lets every thread touch it once,
  // so that later calls allocate nothing. Throws Error if the library is missing.
  explicit CpuDevice(int threads = 0);
};

}  // namespace neurogen
