// From sources to what the norm reads, the currents in between staying on the chip.
#include <algorithm>

#include "kernels/cortical_columns_cuda.cuh"

namespace neurogen {
namespace {

constexpr int kBlocks = 2;  // that a multiprocessor holds
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kSure = 1;  // where two would leave too few registers
#else
constexpr int kSure = kBlocks;
#endif
template <int R>
using LongRounds = ColumnGroup<R, 2 * kCarryTokens, 2>;
template <int R>
using ShortRounds = ColumnGroup<R, kCarryTokens, 1>;

template <typename Group, bool gated>
__global__ void __launch_bounds__(Group::kThreads, kSure) forward_kernel(const ColumnsArguments a, Columns<float> pre_norm) {
#if __CUDA_ARCH__ >= 800
  constexpr int R = Group::kRoles, kRun = Group::kRun, kTokens = Group::kTokens;
  __shared__ Map maps[2][Group::kScanWarps][kLanes];
  static_assert(sizeof maps <= kDeclaredBytes);
  const Group x(a, static_cast<int>(blockIdx.y));
  const float retain = read(a.retain + x.column);
  const float gate_bias = gated ? read(a.gate_bias + x.column / a.stripe) : 0.0f;
  const int opener = gated ? x.opener_of_lane() : 0;
  const bool scans = x.warp < Group::kScanWarps;
  Low* const residuals = reinterpret_cast<Low*>(x.slots + a.slots);
  Low* const openers = residuals + kTokens * kLanes;
  int turn = 0, window = static_cast<int>(blockIdx.x);
  const typename Group::SourceLoader loader(x);
  const typename Group::CurrentsProduct product(x);
  const auto load = [&](int of, int begin) {
    loader.load(a, of, begin, 0);
    if (a.residual.data) x.load_outputs(a.residual, of, begin, residuals);
    if (gated) x.load_openers(of, begin, openers);
    close_stage();
  };
  load(window, 0);
  while (window < a.windows) {
    const std::int64_t token = static_cast<std::int64_t>(window) * a.window;
    float state = 0.0f;
    int next = window;
    for (int round = 0; round < a.window; round += kTokens) {
      await_stages<0>();
      __syncthreads();
      product.run(0, 0);
      int first = x.first_of_lane(window, round);  // long before it is looked at
      __syncthreads();

#pragma unroll 1
      for (int s = 0; s < kTokens / Group::kScanTokens; ++s) {
        const int lane = thread_again() % 32, row = s * Group::kScanTokens + thread_again() / 32 * kRun, begin = round + row;
        const unsigned starts = x.starts(first, round + s * Group::kScanTokens) >> (row - s * Group::kScanTokens);
        if (s + 1 < kTokens / Group::kScanTokens) first = x.first_of_lane(window, round + (s + 1) * Group::kScanTokens);
        float u[kRun][R], residual[kRun];
        Map map;
        if (scans)
#pragma unroll
          for (int k = 0; k < kRun; ++k) {
#pragma unroll
            for (int r = 0; r < R; ++r) u[k][r] = x.currents[(row + k) * Group::kPitch + r * kLanes + lane];
            residual[k] = a.residual.data ? to_float(residuals[(row + k) * kLanes + lane]) : 0.0f;
            Factors factors;
            factors.template compute<gated>(u[k][1], retain, gated ? to_float(openers[(row + k) * a.opener_vectors * kVector<Low> + opener]) + gate_bias : 0.0f);
            u[k][0] *= factors.input();
            u[k][1] = starts >> k & 1 ? 0.0f : factors.forget;
            map.then(u[k][1], u[k][0]);
          }
        float h = exchange<false>(maps, turn, map, state);
        if (s + 1 == kTokens / Group::kScanTokens) {  // sources and residuals have been read by all
          const bool last = round + kTokens >= a.window;
          if (last) next = window + static_cast<int>(gridDim.x);
          if (next < a.windows) load(next, last ? 0 : round + kTokens);
        }
        if (!scans) continue;
        if (a.carried && x.warp == 0 && begin < a.window)
          a.carried[(window * a.carries + begin / kCarryTokens) * a.carried_stride + x.column] = h;
#pragma unroll
        for (int k = 0; k < kRun; ++k) {
          h = u[k][1] * h + u[k][0];
          if (begin + k < a.window) *pre_norm.at(token + begin + k, x.column) = output_of<R>(h, u[k]) + residual[k];
        }
      }
    }
    window = next;
  }
#endif
}

}  // namespace

void cortical_columns_forward(CudaDevice& device, const CorticalColumnsForward& a) {
  const ColumnsArguments arguments = arguments_of(a.columns);
  require_f32("cortical_columns_forward: the output is f32", {a.pre_norm});
  const std::int64_t groups = a.columns.weight[0];
  dispatch_columns<LongRounds, ShortRounds>(device, a.columns, sizeof(Low) * kGroup, [&]<typename Group>(std::type_identity<Group>, auto gated, std::size_t shared) {
    const std::int64_t blocks = std::clamp<std::int64_t>(kBlocks * device.multiprocessors() / std::max<std::int64_t>(groups, 1), 1,
                                                         std::max(arguments.windows, 1));
    launch_with(device, "cortical_columns_forward", forward_kernel<Group, gated.value>,
                dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(groups)), dim3(Group::kThreads), shared, arguments,
                Columns<float>(a.pre_norm));
  });
}

}  // namespace neurogen
