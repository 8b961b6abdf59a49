#include <cuda_runtime.h>

#include <cstring>

#include "arena/block.h"
#include "arena/error.h"
#include "arena/gpu_errors.h"

namespace neurogen {
namespace {

void require(cudaError_t status, Bytes bytes, const char* whose) {
  if (status == cudaSuccess) return;
  throw Error(std::string(whose) + with_commas(bytes) + " bytes (" + cudaGetErrorString(status) +
                  "): close other programs or plan for a smaller budget",
              Error::kRunTime);
}

}  // namespace

Block Block::on_gpu(Bytes bytes, bool cleared) {
  if (bytes == 0) return {};
  ++gpu_requests_;
  void* memory = nullptr;
  if (const cudaError_t status = cudaMalloc(&memory, bytes); status == cudaErrorMemoryAllocation) {
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    throw gpu_too_full(bytes, free, total);
  } else {
    require(status, bytes, "the GPU cannot allocate ");
  }
  Block block(static_cast<std::byte*>(memory), bytes, [](std::byte* data, Bytes) { cudaFree(data); });
  if (cleared) require(cudaMemset(memory, 0, bytes), bytes, "the GPU cannot clear ");
  return block;
}

Block Block::pinned(Bytes bytes) {
  if (bytes == 0) return {};
  ++gpu_requests_;
  void* memory = nullptr;
  require(cudaHostAlloc(&memory, bytes, cudaHostAllocDefault), bytes, "the system cannot pin ");
  std::memset(memory, 0, bytes);
  return Block(static_cast<std::byte*>(memory), bytes, [](std::byte* data, Bytes) { cudaFreeHost(data); });
}

}  // namespace neurogen
