// A planned brain in memory: built, placed, bound, ready for its first values.
#pragma once
#include <memory>

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
  int ordinal = 0;  // of the GPU
};

// Not movable: the program points into it.
struct Session {
  // Takes the memory of a plan that fits, for the brain that the plan was made for.
  Session(Brain brain_, Plan plan, Place place = {});

  Brain brain;
  std::unique_ptr<HeapCapLifted> starting;  // until a GPU has started
  std::unique_ptr<CpuDevice> cpu;  // one of the two is there
#ifdef NEUROGEN_CUDA
  std::unique_ptr<CudaDevice> gpu;
#endif
  Arena arena;
  Program program;
};

}  // namespace neurogen
