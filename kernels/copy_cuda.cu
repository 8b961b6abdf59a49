#include "kernels/base/cuda_several.cuh"
#include "kernels/copy.h"

namespace neurogen {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kPiece = 8 * kThreads;  // vectors of 16 bytes that a block clears

struct Vectors {
  uint4* data;
  std::int64_t count;
};

__global__ void clear_all(PieceTable<Vectors> tensors) {
  const auto [to, piece] = tensors.mine();
  const std::int64_t end = min(to.count, (piece + 1) * kPiece);
  for (std::int64_t i = piece * kPiece + threadIdx.x; i < end; i += kThreads) to.data[i] = {0, 0, 0, 0};
}

}  // namespace

// Either side may be in the pinned arena.
void copy(CudaDevice& device, const TensorView& from, const TensorView& to) {
  require_operands(from.dtype == to.dtype && from.elements() == to.elements(), "copy: the tensors differ in type or size");
  require_operands(from.contiguous() && to.contiguous(), "copy: tensors must be contiguous");
  require_cuda(cudaMemcpyAsync(to.data, from.data, size_of(to), cudaMemcpyDefault, stream_of(device)), "copy");
}

void clear(CudaDevice& device, const TensorView& to) {
  require_operands(to.contiguous(), "clear: the tensor must be contiguous");
  require_cuda(cudaMemsetAsync(to.data, 0, size_of(to), stream_of(device)), "clear");
}

void clear(CudaDevice& device, const Several<TensorView>& all) {
  PieceTable<Vectors> tensors;
  for (const TensorView& to : all) {
    require_operands(to.contiguous() && size_of(to) % sizeof(uint4) == 0,
                     "clear: tensors must be contiguous and multiples of 16 bytes");
    const auto count = static_cast<std::int64_t>(size_of(to) / sizeof(uint4));
    tensors.add({to.as<uint4>(), count}, pieces(count, kPiece));
  }
  launch(device, "clear", clear_all, dim3(tensors.blocks), dim3(kThreads), 0, tensors);
}

}  // namespace neurogen
