// The CPU as a device: threads made once, before anything is sealed, and a way to spread independent items over them.
#pragma once
#include <cstdint>
#include <memory>
#include <type_traits>

namespace neurogen {

// The GPU as a device (cuda_device.h). Every operation is declared for both; a build without CUDA defines none for it.
class CudaDevice;

class CpuDevice {
 public:
  // 0 threads: one for each core this process may run on. Loads the matrix library and lets every thread touch it once,
  // so that later calls allocate nothing. Throws Error if the library is missing.
  explicit CpuDevice(int threads = 0);
  ~CpuDevice();
  CpuDevice(const CpuDevice&) = delete;
  CpuDevice& operator=(const CpuDevice&) = delete;

  int threads() const { return threads_; }

  // Calls body(item, thread) for every item in [0, items), thread in [0, threads()), and returns when all are done.
  // Which thread takes which item is left open: a result may depend on the item alone. Allocates nothing.
  template <typename Body>
  void parallel(std::int64_t items, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    run(items, [](void* context, std::int64_t item, int thread) { (*static_cast<Plain*>(context))(item, thread); },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

 private:
  using Call = void (*)(void* context, std::int64_t item, int thread);
  void run(std::int64_t items, Call call, void* context);

  struct Pool;
  std::unique_ptr<Pool> pool_;
  int threads_ = 1;
};

}  // namespace neurogen
