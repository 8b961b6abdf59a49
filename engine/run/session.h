// A planned model in memory: built, placed, bound, ready for its initial values.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/files/checkpoint.h"
#include "engine/graph/program.h"
#include "engine/run/fit.h"
#include "engine/run/process.h"
#include "kernels/base/nccl.h"
#include "kernels/base/shared_ranks.h"
#ifdef NEUROGEN_CUDA
#include "kernels/base/cuda_device.h"
#include "kernels/base/peers.h"
#endif

namespace neurogen {

// The device that a model runs on.
struct Place {
  bool gpu = false;
  int ordinal = 0;        // the GPU's
  bool separate = false;  // on a GPU, for debugging: see Arena::on_gpu; no checkpoints, which are one image
  // With several ranks (StepOptions::ranks), all of which make their sessions at once: this one's number, and how they exchange: on
  // CPUs by memory that they share, which must outlive the session; on GPUs directly, if all reach each other's memory (`linked`,
  // peers.h), else by NCCL. `gather` collects equally many bytes of each rank on all, in their order.
  int rank = 0;
  SharedRanks* shared = nullptr;
  bool linked = false;
  std::function<void(std::span<const std::byte> mine, std::span<std::byte> all)> gather = {};
  NcclId nccl{};
};

// Not movable: the program points into it.
struct Session {
  // Allocates the memory of a plan that fits. On a CPU it maps the image of `from`, if that has the plan's layout; restore()
  // (restore.h) does the rest.
  Session(Fit fit, Place place = {}, const Checkpoint* from = nullptr);

  int rank;
  Model model;
  std::unique_ptr<HeapCapLifted> starting;  // until a GPU has started
  std::unique_ptr<CpuDevice> cpu;           // on a CPU
  std::unique_ptr<ThreadPool> copiers;      // on a GPU, for copies from and to it (staging.h)
#ifdef NEUROGEN_CUDA
  std::unique_ptr<CudaDevice> gpu;
  std::unique_ptr<Nccl> nccl;  // with several ranks that are not linked
#endif
  ThreadPool& threads() const { return cpu ? *cpu : *copiers; }
  Bytes nccl_bytes() const;       // that NCCL has taken of the GPU's memory, part of the overhead; 0 without it
  const Checkpoint* begins_with;  // null if nothing was mapped
  Arena arena;
#ifdef NEUROGEN_CUDA
  std::unique_ptr<Peers> peers;  // with several ranks that are
#endif
  Program program;
};

// The tensors that checkpoints hold, in the plan's order.
std::vector<TensorId> persistent_tensors(const Plan& plan);

}  // namespace neurogen
