// From the sources to the norm's input; the currents in between stay on the chip.
#include <algorithm>
#include <limits>

#include "kernels/brain/cortical_columns_warp.cuh"

namespace neurogen {
namespace {

constexpr int kMostPairs = 8;  // per block; each takes another window

// A pair's shared memory besides the group: two tiles of sources, and for each warp outputs, openers and its neurons' last sums.
struct PairMemory {
  std::size_t sources, outputs, openers, sums;  // bytes of one

  __host__ __device__ PairMemory(int fan_in, int opener_vectors, int roles)
      : sources(source_bytes(fan_in, false)),
        outputs(OutputTile::kBytes),
        openers(opener_bytes(opener_vectors)),
        sums(sizeof(float) * kWarpOutputs * static_cast<std::size_t>(roles)) {}
  __host__ __device__ std::size_t bytes() const { return 2 * (sources + outputs + openers + sums); }
};

int pairs_in(std::size_t room, std::size_t pair, int windows) {
  return std::clamp(static_cast<int>(room / pair), 1, std::min(kMostPairs, std::max(windows, 1)));
}
// Number of blocks that share a group's windows: the fewest that end soonest, with one block per multiprocessor at a time.
unsigned blocks_of_group(const CudaDevice& device, std::int64_t groups, int windows, int pairs) {
  const auto parts = [](std::int64_t all, std::int64_t of) { return (all + of - 1) / of; };
  std::int64_t best = 1, least = std::numeric_limits<std::int64_t>::max();
  for (std::int64_t blocks = 1; blocks <= parts(windows, pairs); ++blocks) {
    const std::int64_t time = parts(groups * blocks, device.multiprocessors()) * parts(windows, blocks * pairs);
    if (time < least) best = blocks, least = time;
  }
  return static_cast<unsigned>(best);
}

template <int R, bool gated>
__global__ void __launch_bounds__(kPairThreads* kMostPairs, 1) forward_kernel(const ColumnsArguments a, Columns<Low> pre_norm) {
#if __CUDA_ARCH__ >= 800
  const GroupMemory<R> x(a, static_cast<int>(blockIdx.y));
  const PairMemory sizes(a.fan_in, a.opener_vectors, R);
  const int pair = static_cast<int>(threadIdx.x) / kPairThreads, pairs = static_cast<int>(blockDim.x) / kPairThreads;
  const int half = static_cast<int>(threadIdx.x) / 32 % 2, first_output = x.group * kLanes + half * kWarpOutputs;  // of this warp
  unsigned char* const memory = x.behind() + static_cast<std::size_t>(pair) * sizes.bytes();
  const Low* const sources = reinterpret_cast<const Low*>(memory);
  const OutputTile outputs(  // holds the residuals, then the outputs
      reinterpret_cast<const Low*>(memory + 2 * sizes.sources + static_cast<std::size_t>(half) * sizes.outputs));
  Low* const openers =
      reinterpret_cast<Low*>(memory + 2 * (sizes.sources + sizes.outputs) + static_cast<std::size_t>(half) * sizes.openers);
  // Each is read and written by the first lane of its quad alone.
  float* const last_sums = reinterpret_cast<float*>(memory + 2 * (sizes.sources + sizes.outputs + sizes.openers) +
                                                    static_cast<std::size_t>(half) * sizes.sums);
  await_stages<0>();
  __syncthreads();

  const SourceLoader<kPairThreads, false> loader(x, sources);
  const CurrentsProduct<R> product(x, sources);
  struct Round {
    int window, begin;
  };
  const auto ends = [&](const Round& round) { return round.begin + kRound >= a.window; };
  const auto advance = [&](Round& round) {
    if (ends(round)) round = {round.window + static_cast<int>(gridDim.x) * (static_cast<int>(blockDim.x) / kPairThreads), 0};
    else round.begin += kRound;
  };
  Round round{static_cast<int>(blockIdx.x) * pairs + pair, 0};
  unsigned tile = 0;
  const auto synchronize_pair = [] {
    asm volatile("bar.sync %0, %1;" ::"r"(1 + threadIdx.x / kPairThreads), "n"(kPairThreads) : "memory");
  };
  float state[2] = {};
  if (round.window < a.windows) loader.load(a, round.window, 0, 0);
  close_stage();
  while (round.window < a.windows) {
    const auto [window, begin] = round;
    await_stages<0>();
    synchronize_pair();
    if (a.residual.data) outputs.load(a.residual, a, window, begin, first_output);
    if (gated) x.load_openers(window, begin, openers);
    close_stage();
    Round next = round;
    advance(next);
    tile = static_cast<unsigned>(sizes.sources) - tile;
    if (next.window < a.windows) loader.load(a, next.window, next.begin, tile);
    close_stage();
    const int lane_token = begin + static_cast<int>(thread_again() % 32);
    const int first = __ldg(a.first + static_cast<std::int64_t>(window) * a.window +
                            min(lane_token, a.window - 1));  // loaded long before it is used
    RoundCurrents<R> u;
    product.run(u, static_cast<unsigned>(sizes.sources) - tile);
    await_stages<1>();
    __syncwarp();

    const int quad = static_cast<int>(thread_again() % 4);
    const unsigned all_starts = __ballot_sync(0xFFFFFFFFu, first == lane_token), starts = all_starts >> quad * kQuadTokens;
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      const int output = static_cast<int>(thread_again() / 32 % 2 * kWarpOutputs + thread_again() % 32 / 4) + 8 * side,
                column = x.group * kLanes + output;
      const float retain = x.retain[output], gate_bias = gated ? x.gate_bias[output] : 0.0f;
      const Low* const opener = openers + quad * kQuadTokens * a.opener_vectors * kVector<Low> + (gated ? x.opener[output] : 0);
      apply_taps<R>(u, side, x.neurons + output, all_starts, [&](int r) {
        float before = to_next_lane(u.at(r, side, kQuadTokens - 1));
        if (quad == 0) {
          float& last = last_sums[(r * 2 + side) * 8 + static_cast<int>(thread_again() % 32 / 4)];
          const float kept = last;
          last = before, before = kept;
        }
        return before;
      });
      Map map;
#pragma unroll
      for (int k = 0; k < kQuadTokens; ++k) {
        float& c = u.at(0, side, k);
        float& f = u.at(1, side, k);
        Factors factors;
        factors.template compute<gated>(f, retain,
                                        gated ? to_float(opener[k * a.opener_vectors * kVector<Low>]) + gate_bias : 0.0f);
        c *= factors.input();
        f = starts >> k & 1 ? 0.0f : factors.forget;
        map.then(f, c);
      }
      if (a.carried && quad == 0) a.carried[(window * a.carries + begin / kRound) * a.carried_stride + column] = state[side];
      QuadScan<false> forth;
      forth.compose(map);
      float h = forth.enter(state[side]);
      if (ends(round)) state[side] = 0.0f;
      std::uint32_t passing[kQuadTokens / 2] = {};  // residuals become outputs
      if (a.residual.data) outputs.read(passing, side);
      const auto output_at = [&](int k) {
        float now[R];
#pragma unroll
        for (int r = 0; r < R; ++r) now[r] = u.at(r, side, k);
        h = now[1] * h + now[0];
        return output_of<R>(h, now, element(passing, k));
      };
#pragma unroll
      for (int k = 0; k < kQuadTokens; k += 2) {
        const float first_of_pair = output_at(k), second = output_at(k + 1);
        passing[k / 2] = packed<Low>(first_of_pair, second);
      }
      outputs.write(passing, side);
    }
    __syncwarp();
    outputs.store(pre_norm, a, window, begin, first_output);
    advance(round);
  }
#endif
}

}  // namespace

void cortical_columns_forward(CudaDevice& device, const CorticalColumnsForward& a) {
  const ColumnsArguments arguments = arguments_of(a.columns);
  require_operands(a.pre_norm.dtype == DType::bf16, "cortical_columns_forward: the output must be bf16");
  const std::int64_t groups = a.columns.weight[0];
  dispatch_roles(static_cast<int>(a.columns.weight[2] / kGroup), [&](auto roles) {
    const std::size_t pair = PairMemory(arguments.fan_in, arguments.opener_vectors, roles.value).bytes();
    const std::size_t group = GroupMemory<roles.value>::bytes(arguments.fan_in, arguments.slots);
    const int pairs = pairs_in(device.shared_memory() - group, pair, arguments.windows);
    const dim3 grid(blocks_of_group(device, groups, arguments.windows, pairs), static_cast<unsigned>(groups));
    const auto run = [&](auto kernel) {
      launch_with(device, "cortical_columns_forward", kernel, grid, dim3(static_cast<unsigned>(kPairThreads * pairs)),
                  group + static_cast<std::size_t>(pairs) * pair, arguments, Columns<Low>(a.pre_norm));
    };
    if (a.columns.gate.opener) run(forward_kernel<roles.value, true>);
    else run(forward_kernel<roles.value, false>);
  });
}

}  // namespace neurogen
