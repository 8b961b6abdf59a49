// Ranks on GPUs exchange directly (peers.cuh) or through NCCL (nccl.cuh). Both ways share this state: operations run on a stream of
// their own, in order, beside the device's.
#pragma once
#include "kernels/base/cuda_kernel.cuh"

namespace neurogen {

struct GpuRanks {
  static constexpr int kTickets = 8;

  GpuRanks(int rank_, int size_) : rank(rank_), size(size_) {
    int ordinal = 0, least = 0, greatest = 0;
    require_cuda(cudaGetDevice(&ordinal), "asking for the current GPU");
    require_cuda(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, ordinal), "asking for its properties");
    require_cuda(cudaDeviceGetStreamPriorityRange(&least, &greatest), "asking for priorities");
    // An operation's few blocks come before those of products that run meanwhile.
    require_cuda(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, greatest), "making a stream");
    require_cuda(cudaEventCreateWithFlags(&ready, cudaEventDisableTiming), "making an event");
    for (cudaEvent_t& event : done) require_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event");
  }
  ~GpuRanks() {
    for (cudaEvent_t event : done) {
      if (event) cudaEventDestroy(event);
    }
    if (ready) cudaEventDestroy(ready);
    if (stream) cudaStreamDestroy(stream);
  }
  GpuRanks(const GpuRanks&) = delete;
  GpuRanks& operator=(const GpuRanks&) = delete;

  int rank, size;
  int multiprocessors = 0;
  int taken = 0;  // multiprocessors of an operation that runs beside others
  cudaStream_t stream = nullptr;
  cudaEvent_t ready = nullptr;  // the device's stream has what an operation reads
  cudaEvent_t done[kTickets] = {};
  int latest = 0;  // ticket of the operation that was begun last
};

}  // namespace neurogen
