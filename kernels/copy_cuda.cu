#include "kernels/copy.h"
#include "kernels/cuda_kernel.cuh"

namespace neurogen {
namespace {

std::size_t bytes_of(const TensorView& view) { return static_cast<std::size_t>(view.elements()) * size_of(view.dtype); }

}  // namespace

// Either side may lie in the pinned arena.
void copy(CudaDevice& device, const TensorView& from, const TensorView& to) {
  require_operands(from.dtype == to.dtype && from.elements() == to.elements(), "copy: the tensors differ in type or size");
  require_operands(from.contiguous() && to.contiguous(), "copy: a tensor is strided");
  require_cuda(cudaMemcpyAsync(to.data, from.data, bytes_of(to), cudaMemcpyDefault, stream_of(device)), "copy");
}

void clear(CudaDevice& device, const TensorView& to) {
  require_operands(to.contiguous(), "clear: the tensor is strided");
  require_cuda(cudaMemsetAsync(to.data, 0, bytes_of(to), stream_of(device)), "clear");
}

}  // namespace neurogen
