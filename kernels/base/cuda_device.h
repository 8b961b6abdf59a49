// One NVIDIA GPU as a device: a context, one stream that runs everything in order, cuBLAS on that stream, and whole programs
// captured once and launched repeatedly.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "arena/bytes.h"
#include "kernels/base/device.h"

namespace neurogen {

class Nccl;   // nccl.h
class Peers;  // peers.h

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

// Makes GPU `ordinal` current for this thread and restores the previous one on destruction.
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
  // Number of GPUs that the driver shows; 0 without a driver. Throws Error if a GPU is present but unusable. Creates no context.
  static int count();
  // Traits of one GPU, read without a context.
  struct Traits {
    int capability = 0;  // 10 * major + minor: 75, 80, 90
    int multiprocessors = 0;
  };
  static Traits traits(int ordinal);
  // "CUDA 13.0, cuBLAS 13.0, driver for CUDA up to 13.1": the versions of this build, and what the driver supports.
  static std::string versions();

  // Throws Error for a GPU that is missing, too old for these kernels, or in use by others.
  explicit CudaDevice(int ordinal = 0);
  ~CudaDevice();
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  std::string name() const;  // "NVIDIA H200"
  int capability() const;
  int multiprocessors() const;
  Bytes total_memory() const;
  Bytes free_memory() const;
  // Most shared memory that operations may use per block: the GPU's, or a lower limit that makes it behave like a smaller card.
  Bytes shared_memory() const;
  void limit_shared_memory(Bytes bytes);
  // GPU memory held by this process: the growth of the memory in use since before the context was created. Without NVML: all memory
  // in use on the GPU, by any process.
  Bytes used_by_us() const;

  // Gives the matrix library its scratch memory, so that it allocates none. Must outlive every product.
  void use_workspace(void* memory, Bytes bytes);

  // With several GPUs, operations among ranks (kernels/all_ranks.h) go through one of these, which must outlive them.
  void use_nccl(Nccl& nccl);
  void use_peers(Peers& peers);

  // Waits for all work submitted so far. Throws Error if a kernel failed.
  void synchronize();
  std::int64_t synchronizations() const;  // number of calls
  // Milliseconds between the two latest marks on the stream; both must be reached.
  void mark();
  double milliseconds_between_marks() const;
  // Numbered marks, from 0, made at start-up. has_reached: whether a mark is reached. milliseconds_after_mark: from one mark to the
  // next; both must be reached.
  void reserve_marks(std::size_t count);
  void mark(std::size_t number);
  bool has_reached(std::size_t number) const;
  double milliseconds_after_mark(std::size_t number) const;

  // Calls between begin_capture and end_capture are recorded, not run; numbered marks are set whenever the graph reaches them.
  // Allocating or waiting during a capture fails, by CUDA's design.
  void begin_capture();
  CudaGraph end_capture();
  void launch(const CudaGraph& graph);
  // Copy bytes between host and device in any direction, for start-up and saving. copy() is complete at the next synchronize(),
  // copy_now() when it returns.
  void copy(const void* from, void* to, Bytes bytes);
  void copy_now(const void* from, void* to, Bytes bytes);

  void fill(void* to, int byte, Bytes bytes);

  // CUDA's own handles, only for kernels/*.cu (cuda_kernel.cuh).
  struct Native;
  Native& native() { return *native_; }

 private:
  std::unique_ptr<Native> native_;
};

}  // namespace neurogen
