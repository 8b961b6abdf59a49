// One NVIDIA GPU as a device: a context, one stream on which everything runs in order, cuBLAS on that stream, and whole
// programs captured once and launched again and again.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "arena/bytes.h"
#include "kernels/device.h"

namespace neurogen {

// A captured piece of the stream's work, ready to be launched.
class CudaGraph {
 public:
  CudaGraph() = default;
  CudaGraph(CudaGraph&& other) noexcept;
  CudaGraph& operator=(CudaGraph&& other) noexcept;
  ~CudaGraph();

 private:
  friend class CudaDevice;
  void* executable_ = nullptr;
};

// While one lives, this thread works with a GPU of this ordinal; then again with the one before.
class CurrentGpu {
 public:
  explicit CurrentGpu(int ordinal);
  ~CurrentGpu();
  CurrentGpu(const CurrentGpu&) = delete;
  CurrentGpu& operator=(const CurrentGpu&) = delete;

 private:
  int before_ = 0;
};

class CudaDevice {
 public:
  // GPUs that a driver of this machine shows; 0 where there is no driver. Throws Error where a GPU is there but cannot be
  // used. Creates no context.
  static int count();
  // Of one of them, without a context.
  struct Traits {
    int capability = 0;  // 10 * major + minor: 75, 80, 90
    int multiprocessors = 0;
  };
  static Traits traits(int ordinal);
  // "CUDA 13.0, cuBLAS 13.0, driver for CUDA up to 13.1": what was built with, and what the driver can do.
  static std::string versions();

  // Throws Error for a GPU that is not there, too old for our kernels, or taken by others.
  explicit CudaDevice(int ordinal = 0);
  ~CudaDevice();
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  std::string name() const;  // "NVIDIA H200"
  int capability() const;
  int multiprocessors() const;
  Bytes total_memory() const;
  Bytes free_memory() const;
  // The most shared memory that operations give a block: the GPU's, or a limit below it, so that what a smaller card runs is run
  // here.
  Bytes shared_memory() const;
  void limit_shared_memory(Bytes bytes);
  // What this process holds on the GPU: the growth of the memory in use since before the context. Where NVML is missing,
  // all that is in use there, by whomever.
  Bytes used_by_us() const;

  // Scratch memory for the matrix library, which takes its own otherwise. Must outlive every product.
  void use_workspace(void* memory, Bytes bytes);

  // Waits for all work given so far. Throws Error where a kernel failed.
  void synchronize();
  std::int64_t synchronizations() const;  // how often that was
  // Milliseconds between the two latest marks on the stream, both reached.
  void mark();
  double milliseconds_between_marks() const;
  // Marks of their own, numbered from 0, made at start-up; whether one is reached, and milliseconds from one to the next, both
  // reached.
  void reserve_marks(std::size_t count);
  void mark(std::size_t number);
  bool has_reached(std::size_t number) const;
  double milliseconds_after_mark(std::size_t number) const;

  // What is called between them is recorded, not run; numbered marks are set whenever the graph gets there. An allocation or a wait
  // in there fails, by design of the capture.
  void begin_capture();
  CudaGraph end_capture();
  void launch(const CudaGraph& graph);
  // Bytes from host or device to host or device, for start-up and for saving: done at the next synchronize(), or when the call
  // returns.
  void copy(const void* from, void* to, Bytes bytes);
  void copy_now(const void* from, void* to, Bytes bytes);

  void fill(void* to, int byte, Bytes bytes);

  // CUDA's own handles, for kernels/*.cu alone (cuda_kernel.cuh).
  struct Native;
  Native& native() { return *native_; }

 private:
  std::unique_ptr<Native> native_;
};

}  // namespace neurogen
