// The hippocampus over whole windows: a block takes a tile of queries of one head and window.
#include "kernels/brain/attention_tile_cuda.cuh"

namespace neurogen {
namespace {

template <typename T>
struct Windows {
  const T* currents;  // [G, N, 32R]
  std::int64_t group_stride;
  int columns;
  const int* first;  // [N]
  int window;
  GradientOf<T>* pre_norm;  // [N, 32G]
  std::int64_t pre_norm_stride;
};

// The tiles that see the most keys come first.
template <typename T>
__global__ void __launch_bounds__(kTileThreads<T>, kTileBlocks<T>) forward_kernel(const Windows<T> a) {
  auto& memory = *reinterpret_cast<AttendMemory<T>*>(shared_memory);
  const int head = static_cast<int>(blockIdx.x), begin = static_cast<int>(gridDim.z - 1 - blockIdx.z) * kTile<T>;
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.y) * a.window;
  const HeadCurrents<const T> currents(a.currents, a.group_stride, a.columns, head, token);
  const int* const first = a.first + token;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  memory.angles.template make<kTileThreads<T>>();
  memory.angles.template move<kTileThreads<T>>(begin);
  __syncthreads();
  TileLoad<T, kTileThreads<T>, kTile<T>>::turned(memory.queries, memory.angles, currents, kQuery, begin, a.window);
  __syncthreads();
  Left<T, kDims> q(memory.queries_of(warp));
  q.read();
  const Queries queries(first, begin + warp * 16, a.window);
  Mixed mixed;
  float sum[2];
  attend(memory, currents, first[begin] / kTile<T> * kTile<T>, begin, a.window, queries, q, mixed, sum);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int t = min(queries.token[half], a.window - 1);
    const auto opened = [&](int j) -> float2 {
      const float2 open = currents.pair(t, kOpen, column_of(j));
      return {mixed[0][j][2 * half] * sigmoid_of(open.x), mixed[0][j][2 * half + 1] * sigmoid_of(open.y)};
    };
    GradientOf<T>* const row = a.pre_norm + (token + t) * a.pre_norm_stride + head * kDims;
#pragma unroll
    for (int j = 0; j < kDims / 8; j += 2) store_sixteen(row, j, opened(j), opened(j + 1), queries.token[half] < a.window);
  }
}

}  // namespace

void attention_forward(CudaDevice& device, const AttentionForward& a) {
  require_heads(a.currents, a.window);
  require_products(device, a.currents.dtype);
  require_operands(a.pre_norm.dtype == gradient_of(a.currents.dtype), "attention_forward: the output has the wrong type");
  dispatch_float(a.currents.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch_with(
        device, "attention_forward", forward_kernel<T>,
        dim3(static_cast<unsigned>(a.currents[0] / 2), static_cast<unsigned>(a.currents[1] / a.window), pieces(a.window, kTile<T>)),
        dim3(kTileThreads<T>), sizeof(AttendMemory<T>),
        Windows<T>{a.currents.as<const T>(), a.currents.row_stride, static_cast<int>(a.currents[2]), a.first.as<const int>(),
                   static_cast<int>(a.window), a.pre_norm.as<GradientOf<T>>(), a.pre_norm.row_stride});
  });
}

}  // namespace neurogen
