// The hippocampus over whole windows: a block takes a tile of queries of one head and window.
#include "kernels/attention_cuda.cuh"

namespace neurogen {
namespace {

struct Windows {
  const float* currents;  // [G, N, 32R]
  std::int64_t group_stride;
  int columns;
  const int* first;  // [N]
  int window;
  float* pre_norm;  // [N, 32G]
  std::int64_t pre_norm_stride;
};

template <typename T>
struct ForwardMemory {
  HeadTile<T> q, k, v;
  ScoreTile<T> weights;
};

template <typename T>
__global__ void __launch_bounds__(kTileThreads<T>, kForwardBlocks<T>) forward_kernel(const Windows a) {
  __shared__ Turns turns;
  auto& memory = *reinterpret_cast<ForwardMemory<T>*>(shared_memory);
  const int head = static_cast<int>(blockIdx.y), begin = static_cast<int>(blockIdx.x) * kTile<T>;
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.z) * a.window;
  const HeadCurrents<const float> currents(a.currents, a.group_stride, a.columns, head, token);
  const int* const first = a.first + token;
  make_turns(turns);
  __syncthreads();
  const TileLoad<T> load(turns);
  load.turned(memory.q, currents, kQuery, begin, a.window);
  const QueryTile<T> tile(first, begin, a.window);
  Mixed mixed;
  float log_sum[2];
  attend<T>(load, currents, first, a.window, tile, memory.q, memory.k, memory.v, memory.weights, mixed, log_sum);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int t = tile.token[half];
    if (t >= a.window) continue;
#pragma unroll
    for (int j = 0; j < kDims / 8; ++j) {
      const int d = column_of(j);
      const float2 open = currents.pair(t, kOpen, d);
      store_pair(a.pre_norm + (token + t) * a.pre_norm_stride + head * kDims + d, mixed[0][j][2 * half] * sigmoid_of(open.x),
                 mixed[0][j][2 * half + 1] * sigmoid_of(open.y));
    }
  }
}

}  // namespace

void attention_forward(CudaDevice& device, const AttentionForward& a) {
  require_heads(a.currents, a.window);
  require_operands(a.pre_norm.dtype == DType::f32, "attention_forward: its output is f32");
  dispatch_float(a.products, [&](auto zero) {
    using T = decltype(zero);
    launch_with(device, "attention_forward", forward_kernel<T>,
                dim3(pieces(a.window, kTile<T>), static_cast<unsigned>(a.currents[0] / 2),
                     static_cast<unsigned>(a.currents[1] / a.window)),
                dim3(kTileThreads<T>), sizeof(ForwardMemory<T>),
                Windows{a.currents.as<const float>(), a.currents.row_stride, static_cast<int>(a.currents[2]),
                        a.first.as<const int>(), static_cast<int>(a.window), a.pre_norm.as<float>(), a.pre_norm.row_stride});
  });
}

}  // namespace neurogen
