#include "kernels/base/cuda_kernel.cuh"
#include "kernels/documents.h"

namespace neurogen {
namespace {

// One warp per window: 32 tokens at a time, each lane finds the latest document end before it.
__global__ void find_first(const std::int32_t* ids, std::int64_t window, std::int64_t document_end, std::int32_t* first) {
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * window;
  const unsigned before = (1u << threadIdx.x) - 1;
  std::int32_t start = 0;
#pragma unroll 8
  for (std::int64_t t = 0; t < window; t += 32) {
    const std::int64_t mine = t + threadIdx.x;
    const std::int32_t id = __ldg(ids + begin + min(mine, window - 1));  // several loads overlap, since `first` is another tensor
    const unsigned ends = __ballot_sync(0xFFFFFFFFu, mine < window && id == document_end);
    const unsigned earlier = ends & before;
    if (mine < window) first[begin + mine] = earlier ? static_cast<std::int32_t>(t) + 32 - __clz(earlier) : start;
    if (ends) start = static_cast<std::int32_t>(t) + 32 - __clz(ends);
  }
}

}  // namespace

void documents(CudaDevice& device, const Documents& a) {
  require_operands(a.window > 0 && a.ids[0] % a.window == 0, "documents: the tokens must be whole windows");
  launch(device, "documents", find_first, dim3(pieces(a.ids[0], a.window)), dim3(32), 0, a.ids.as<const std::int32_t>(), a.window,
         a.document_end, a.first.as<std::int32_t>());
}

}  // namespace neurogen
