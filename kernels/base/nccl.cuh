// NCCL's functions and types, as far as they are used here. Declared here rather than included: CUDA's toolkit has no nccl.h, and
// the oldest layout of its settings is taken by every later version.
#pragma once
#include <climits>
#include <cstdint>

#include "kernels/base/gpu_ranks.cuh"
#include "kernels/base/nccl.h"

namespace neurogen {

struct NcclFunctions {
  using Result = int;
  using Communicator = struct NcclCommunicator*;
  struct Id {
    char bytes[128];
  };
  enum Type : int { i32 = 2, bytes = 0, f16 = 6, f32 = 7, f64 = 8, bf16 = 9 };
  enum Reduction : int { sum = 0, maximum = 2 };
  struct Settings {  // of version 2.18
    std::size_t size = sizeof(Settings);
    unsigned magic = 0xcafebeef, version = 21800;
    int blocking = 1, cluster = INT_MIN, least_channels = INT_MIN, most_channels = INT_MIN;
    const char* network = nullptr;
    int shares_split = INT_MIN, unused = INT_MIN;
  };

  Result (*version)(int*) = nullptr;
  Result (*unique_id)(Id*) = nullptr;
  Result (*init)(Communicator*, int size, Id, int rank, Settings*) = nullptr;
  Result (*destroy)(Communicator) = nullptr;
  Result (*abort)(Communicator) = nullptr;
  const char* (*error)(Result) = nullptr;
  const char* (*last_error)(Communicator) = nullptr;
  Result (*group_start)() = nullptr;
  Result (*group_end)() = nullptr;
  Result (*all_reduce)(const void*, void*, std::size_t, Type, Reduction, Communicator, cudaStream_t) = nullptr;
  Result (*reduce)(const void*, void*, std::size_t, Type, Reduction, int root, Communicator, cudaStream_t) = nullptr;
  Result (*broadcast)(const void*, void*, std::size_t, Type, int root, Communicator, cudaStream_t) = nullptr;
  Result (*all_gather)(const void*, void*, std::size_t, Type, Communicator, cudaStream_t) = nullptr;
};

const NcclFunctions& nccl();                                        // throws Error if the library is missing or too old
void require_nccl(NcclFunctions::Result result, const char* what);  // throws Error unless it is a success

struct Nccl::Native : GpuRanks {
  using GpuRanks::GpuRanks;

  NcclFunctions::Communicator communicator = nullptr;
  Bytes gpu_bytes = 0;
};

}  // namespace neurogen
