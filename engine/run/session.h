// A planned brain in memory: built, placed, bound, ready for its first values.
#pragma once
#include <memory>
#include <vector>

#include "engine/files/checkpoint.h"
#include "engine/graph/program.h"
#include "engine/run/fit.h"
#include "engine/run/process.h"
#ifdef NEUROGEN_CUDA
#include "kernels/cuda_device.h"
#endif

namespace neurogen {

// Where a brain runs.
struct Place {
  bool gpu = false;
  int ordinal = 0;        // of the GPU
  bool separate = false;  // on a GPU, for debugging: see Arena::on_gpu; checkpoints, which are one image, neither come nor go
};

// Not movable: the program points into it.
struct Session {
  // Takes the memory of a plan that fits, for the brain that the plan was made for. On a CPU it begins with the image of
  // `from`, where there is one that is laid out as the plan is; restore() (restore.h) does what is left to do.
  Session(Brain brain_, Plan plan, Place place = {}, const Checkpoint* from = nullptr);

  Brain brain;
  std::unique_ptr<HeapCapLifted> starting;  // until a GPU has started
  std::unique_ptr<CpuDevice> cpu;           // this one is there, or
  std::unique_ptr<ThreadPool> copiers;      // for copies from and to a GPU (staging.h), and the GPU
#ifdef NEUROGEN_CUDA
  std::unique_ptr<CudaDevice> gpu;
#endif
  ThreadPool& threads() const { return cpu ? *cpu : *copiers; }
  const Checkpoint* begins_with;  // null where nothing was mapped
  Arena arena;
  Program program;
};

// What checkpoints hold, in the plan's order.
std::vector<TensorId> persistent_tensors(const Plan& plan);

}  // namespace neurogen
