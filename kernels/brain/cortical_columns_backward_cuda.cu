// The backward pass of a module's column groups: recomputes the currents, goes back through norm, microcircuit and recurrence, then
// computes the gradients of weights (which stay in registers over all tokens) and of each slot's sources.
#include <cuda/barrier>

#include "kernels/brain/cortical_columns_taps_cuda.cuh"

#pragma nv_diag_suppress static_var_with_dynamic_init  // a cuda::barrier in shared memory, initialised by init()

namespace neurogen {
namespace {

constexpr std::size_t kDeclared = 64;  // upper bound of the kernel's own static shared memory

// A block takes one group and every window w of the batch with w % parts == part, and adds its sums to that part of the gradients.
template <int R, bool gated, int kRounds>
__global__ void __launch_bounds__(BackwardLayout<R, kRounds>::kThreads, 1) backward_kernel(const ColumnsBackward b) {
#if __CUDA_ARCH__ >= 800
  using Layout = BackwardLayout<R, kRounds>;
  constexpr bool kBeside = Layout::kBeside;
  constexpr int kSums = R + 1;  // gradients of biases and gain; the second bias's is also retain's
  // Both kinds of warps meet here. They come from different places in the code, so __syncthreads does not work.
  __shared__ cuda::barrier<cuda::thread_scope_block> meeting;
  if (threadIdx.x == 0) init(&meeting, Layout::kThreads);  // visible to all after the next barrier
  static_assert(sizeof meeting <= kDeclared && kRounds <= 2);
  auto& fixed = *reinterpret_cast<typename Layout::Fixed*>(shared_memory);
  const ColumnsArguments& a = b.forward;
  const int part = static_cast<int>(blockIdx.y), groups = static_cast<int>(gridDim.x);
  const GroupMemory<R> x(a, static_cast<int>(blockIdx.x), sizeof fixed);
  const Layout layout(a.fan_in, a.opener_vectors);
  const Low* const sources = reinterpret_cast<const Low*>(x.behind());
  const unsigned source_tile = static_cast<unsigned>(layout.source_tile);
  const unsigned gradients = shared_address(fixed.gradients), sums_of_sources = shared_address(x.behind() + layout.sums_at());
  const auto inputs_of = [&](unsigned warp, unsigned turn) {
    return RoundInputs(x.behind() + layout.inputs_at() + (turn * 2 * kRounds + warp) * layout.inputs);
  };
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kLanes) fixed.gains[thread] = read(b.gain + x.group * kLanes + thread);
  if (thread < kRounds * kLanes) fixed.following[thread / kLanes][thread % kLanes] = 0.0f;
  if (thread < Layout::kScanThreads)
    for (auto& sums : fixed.sums[thread / 32]) sums[thread % 32] = {};
  for (int c = thread; c < kRounds * GroupMemory<R>::kColumns; c += Layout::kThreads) (&fixed.taps[0][0])[c] = {};
  if (thread < kPairThreads) {
    const CurrentsProduct<R> product(x, sources);
    const int output = thread / 32 * kWarpOutputs + thread % 32 / 4;
    fixed.places[thread] = {product.rows, product.columns, product.before,
                            gradients + GradientTile<R>::place(static_cast<unsigned>(output), static_cast<unsigned>(thread) % 4)};
  }
  await_stages<0>();
  __syncthreads();

  // Steps in execution order: windows upwards, each from its end. `begin` belongs to a step's latest round.
  struct Step {
    int window, begin;
  };
  const int last_begin = (a.window - 1) / kRound * kRound;
  const Step first{(part - b.first_window % b.parts + b.parts) % b.parts, last_begin};
  const int count =
      first.window < a.windows ? ((a.windows - 1 - first.window) / b.parts + 1) * (last_begin / (kRound * kRounds) + 1) : 0;
  const auto advance = [&](Step& step) {
    step.begin -= kRound * kRounds;
    if (step.begin < 0) step = {step.window + b.parts, last_begin};
  };

  if (threadIdx.x >= Layout::kScanThreads) {
    WeightGradient<R, Layout::kMultiplyWarps> d_weight(
        x, sources, gradients,
        b.d_weight + (static_cast<std::int64_t>(part) * groups + x.group) * a.fan_in * GroupMemory<R>::kColumns);
    const SourcesGradient<R> d_sources(x, gradients);
    const int width = 1 << a.width_bits;
    const std::int64_t tokens = static_cast<std::int64_t>(a.windows) * a.window;
    Low* const d_selected = b.d_selected + static_cast<std::int64_t>(x.group) * a.slots * tokens * width;
    const SourceLoader<Layout::kMultiplyThreads, true> loader(x, sources);
    Step step = first, loaded = first;
    const auto load = [&](int i) {
#pragma unroll
      for (int round = 0; round < kRounds; ++round)
        if (loaded.begin >= round * kRound)
          loader.load(a, loaded.window, loaded.begin - round * kRound,
                      static_cast<unsigned>(i % Layout::kSourceTiles * kRounds + round) * source_tile);
      const unsigned warp = (thread_again() - Layout::kScanThreads) / 32;
      const int begin = loaded.begin - static_cast<int>(warp / 2) * kRound;
      if (warp < 2 * kRounds && begin >= 0)
        inputs_of(warp, static_cast<unsigned>(i) % Layout::kInputs)
            .template load<gated>(x, b, loaded.window, begin, x.group * kLanes + static_cast<int>(warp) % 2 * kWarpOutputs);
      advance(loaded);
      close_stage();
    };
    const TapsGradient<R, kRounds> taps{x, b, fixed, gradients, sums_of_sources, part};
    const auto hear_back = [&](int i) { taps.run(i, step.begin, step.begin == last_begin); };
    const auto take_gradients = [&](int source_tiles, int gradient_tiles) {
#pragma unroll 1
      for (int round = 0; round < kRounds && step.begin - round * kRound >= 0; ++round) {
        const int begin = step.begin - round * kRound;
        const unsigned gradient = static_cast<unsigned>(gradient_tiles + round) * GradientTile<R>::kBytes;
        d_weight.add(static_cast<unsigned>(source_tiles + round) * source_tile, gradient);
        const std::int64_t token = static_cast<std::int64_t>(step.window) * a.window + begin;
#pragma unroll 1
        for (int source = static_cast<int>((thread_again() - Layout::kScanThreads) / 32) * 16; source < a.fan_in;
             source += Layout::kMultiplyWarps * 16) {
          const int in_slot = source & (width - 1);
          d_sources.run(gradient, source, a.window - begin, width,
                        d_selected + (source - in_slot) * tokens + token * width + in_slot);
        }
      }
      advance(step);
    };
    if (kBeside && count > 0) load(0);
    await_stages<0>();
    meeting.arrive_and_wait();
#pragma unroll 1
    for (int i = 0; i < count + kBeside; ++i) {
      if constexpr (kBeside) {
        if (i > 0) hear_back(i - 1);
        if (i > 0 && i < count && b.sums_tiles == 1) asm volatile("bar.arrive 3, %0;" ::"n"(Layout::kThreads) : "memory");
        if (i + 1 < count) load(i + 1);
        if (i > 0) take_gradients((i - 1) % Layout::kSourceTiles * kRounds, (i - 1) % Layout::kGradientTiles * kRounds);
        await_stages<0>();
      } else {
        load(0);
        await_stages<0>();
        meeting.arrive_and_wait();
        meeting.arrive_and_wait();
        hear_back(i);
        take_gradients(0, 0);
      }
      meeting.arrive_and_wait();
    }
    d_weight.store();
    return;
  }

  const auto synchronize = [] { asm volatile("bar.sync 1, %0;" ::"n"(Layout::kScanThreads) : "memory"); };
  const auto scan = [&](int window, int begin, unsigned i, bool ends) {
    const bool present = begin >= 0;
    const unsigned warp = thread_again() / 32, lane = thread_again() % 32, quad = lane % 4;
    const unsigned output = warp % 2 * kWarpOutputs + lane / 4;  // of side 0
    const int column = x.group * kLanes + static_cast<int>(warp) % 2 * kWarpOutputs;
    const auto place = fixed.places[thread_again() % kPairThreads];
    const unsigned to = place.gradients + (i % Layout::kGradientTiles * kRounds + warp / 2) * GradientTile<R>::kBytes;
    const unsigned to_sums = place.gradients - gradients + sums_of_sources +
                             ((i & static_cast<unsigned>(b.sums_tiles - 1)) * kRounds + warp / 2) * GradientTile<R>::kBytes;
    unsigned starts = 0;
    const auto give = [&](unsigned role, unsigned side, const float(&d)[kQuadTokens]) {  // returns their sum
      if (quad == 0)
        fixed.firsts[i % Layout::kFirsts][warp / 2][role * kLanes + output + 8 * side] =
            starts & 1 ? std::uint16_t{0} : static_cast<std::uint16_t>(packed<Low>(d[0], 0.0f));
      GradientTile<R>::store(to + (role * kLanes + 8 * side) * GradientTile<R>::kRow, d);
      return (d[0] + d[1] + (d[2] + d[3])) + (d[4] + d[5] + (d[6] + d[7]));
    };
    const auto await_sums = [&] {  // until those of the step before are used up
      if (kBeside && i > 0 && b.sums_tiles == 1) asm volatile("bar.sync 3, %0;" ::"n"(Layout::kThreads) : "memory");
    };
    RoundScan<R, gated> tokens;
    QuadScan<true> recurrence[2];
    if (!present) await_sums();
    if (present) {
      const RoundInputs in = inputs_of(warp, i % Layout::kInputs);
      const RoundInputs::Token token = in.token(begin);
      starts = __ballot_sync(0xFFFFFFFFu, token.keep == 0.0f);
      if (warp % 2 == 0 && lane == 0) fixed.starts[i % Layout::kGradientTiles][warp / 2] = starts;
      RoundCurrents<R> u;
      Accumulators<R, 1> before;
      CurrentsProduct<R>(x, place.rows, place.columns, place.before)
          .run(u, before, (i % Layout::kSourceTiles * kRounds + warp / 2) * source_tile);
      await_sums();
#pragma unroll
      for (int side = 0; side < 2; ++side)
        apply_taps<R>(u, side, x.neurons + output + 8 * side, starts, [&](int r) {
          float s[kQuadTokens];
#pragma unroll
          for (int k = 0; k < kQuadTokens; ++k) s[k] = u.at(r, side, k);
          GradientTile<R>::store(to_sums + static_cast<unsigned>(r * kLanes + 8 * side) * GradientTile<R>::kRow, s);
          const float entering = to_next_lane(s[kQuadTokens - 1]);
          return quad > 0 ? entering : before[r][0][2 * side];
        });
      in.settle(token);
      tokens.keeps = in.keeps() + quad * kQuadTokens;
#pragma unroll
      for (unsigned side = 0; side < 2; ++side) {
        const float d_gain = tokens.forth(u, side, x, in, output + 8 * side, fixed.gains[output + 8 * side], b.residual_stored);
        auto sums = fixed.sums[warp][side][lane];
        sums.at[0] += d_gain;
#pragma unroll
        for (unsigned r = 2; r < R; ++r) {
          float d[kQuadTokens];
#pragma unroll
          for (int k = 0; k < kQuadTokens; ++k) d[k] = u.at(r, side, k);
          sums.at[r - 1] += give(r, side, d);
        }
        fixed.sums[warp][side][lane] = sums;
        recurrence[side].compose(tokens.recurrence(side));
      }
      __syncwarp();
      if (a.residual.data) in.d_residuals.store(b.d_residual, a, window, begin, column);
    }
    // Every thread knows each round's map of the recurrence before it is applied; the map of an absent round changes nothing.
    float states[2];
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      if (recurrence[side].whole()) fixed.maps[warp / 2][output + 8 * side] = recurrence[side].to_here;
      states[side] = fixed.following[warp / 2][output + 8 * side];
    }
    synchronize();
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      float next = states[side];
#pragma unroll
      for (unsigned round = 0; round < kRounds; ++round) {
        if (round == warp / 2) states[side] = next;
        const Map map = fixed.maps[round][output + 8 * side];
        next = map.scale * next + map.shift;
      }
      fixed.following[warp / 2][output + 8 * side] = ends ? 0.0f : next;
    }
    if (present) {
      __syncwarp();  // tells the compiler that all lanes are here
      const int token = begin + static_cast<int>(quad) * kQuadTokens, last = kQuadTokens - 1;
      Low* const d_gate =
          gated ? b.d_gate.at(static_cast<std::int64_t>(window) * a.window + token + last, column + static_cast<int>(lane / 4))
                : nullptr;
      float d_h[2], d_input[2][kQuadTokens], d_forget[2][kQuadTokens];
#pragma unroll
      for (int side = 0; side < 2; ++side) d_h[side] = recurrence[side].enter(states[side]);
      tokens.back(d_h, d_input, d_forget, d_gate, b.d_gate.stride, a.window - token);
      auto sums = fixed.sums[warp][2][lane];
#pragma unroll
      for (unsigned side = 0; side < 2; ++side) {
        sums.at[2 * side] += give(0, side, d_input[side]);
        sums.at[2 * side + 1] += give(1, side, d_forget[side]);
      }
      fixed.sums[warp][2][lane] = sums;
    }
    if (!ends) return;
    synchronize();
    // The window's sums: for each output over four lanes of each pair.
    for (unsigned j = thread_again(); j < kSums * kLanes; j += Layout::kScanThreads) {
      const unsigned s = j / kLanes, here = j % kLanes, side = here / 8 % 2;
      const unsigned vector = s < 2 ? 2 : side, element = s < 2 ? 2 * side + s : s < R ? s - 1 : 0;
      float sum = 0.0f;
#pragma unroll
      for (unsigned round = 0; round < kRounds; ++round) {
        auto* const four = fixed.sums[2 * round + here / 16][vector] + here % 8 * 4;
        sum += four[0].at[element] + four[1].at[element] + (four[2].at[element] + four[3].at[element]);
#pragma unroll
        for (int k = 0; k < 4; ++k) four[k].at[element] = 0.0f;
      }
      const int of_part = part * groups * kLanes + x.group * kLanes + static_cast<int>(here);
      if (s < R) b.d_bias[(part * R + static_cast<int>(s)) * b.d_bias_stride + x.group * kLanes + static_cast<int>(here)] += sum;
      if (s == 1) b.d_retain[of_part] += sum;
      if (s == R) b.d_gain[of_part] += sum;
    }
  };

  Step step = first;
  meeting.arrive_and_wait();
#pragma unroll 1
  for (int i = 0; i < count + kBeside; ++i) {
    if (!kBeside) meeting.arrive_and_wait();
    if (i < count) {
      const int round = static_cast<int>(thread_again() / kPairThreads);
      scan(step.window, step.begin - round * kRound, static_cast<unsigned>(i), step.begin < kRound * kRounds);
      advance(step);
    }
    if (!kBeside) meeting.arrive_and_wait();
    meeting.arrive_and_wait();
  }
#endif
}

}  // namespace

void cortical_columns_backward(CudaDevice& device, const CorticalColumnsBackward& a) {
  require_f32("cortical_columns_backward: all operands but gradients of outputs and slots must be f32",
              {a.inverse_rms, a.dot, a.gain, a.d_weight, a.d_taps, a.d_bias, a.d_retain, a.d_gain});
  require_operands(a.d_out.dtype == DType::bf16 && (!a.d_residual || a.d_residual.dtype == DType::bf16) &&
                       (!a.d_gate || a.d_gate.dtype == DType::bf16),
                   "cortical_columns_backward: the gradients of output, residual and gate must be bf16");
  require_operands(a.d_selected.dtype == DType::bf16 && a.d_selected.contiguous() && a.d_weight.contiguous(),
                   "cortical_columns_backward: the slots' gradient must be bf16, and it and the weights' gradient contiguous");
  require_operands(a.parts > 0 && a.d_weight[0] == a.parts * a.columns.weight[0],
                   "cortical_columns_backward: the gradients have the wrong number of parts");
  if (a.columns.first[0] == 0) return;
  ColumnsBackward arguments{arguments_of(a.columns),
                            Columns<const Low>(a.d_out),
                            a.inverse_rms.as<const float>(),
                            a.dot.as<const float>(),
                            a.gain.as<const float>(),
                            a.d_selected.as<Low>(),
                            a.d_weight.as<float>(),
                            a.d_taps.as<float>(),
                            a.d_taps.row_stride,
                            a.d_bias.as<float>(),
                            a.d_bias.row_stride,
                            a.d_retain.as<float>(),
                            a.d_gain.as<float>(),
                            Columns<Low>(a.d_residual),
                            Columns<Low>(a.d_gate),
                            static_cast<int>(a.parts),
                            static_cast<int>(a.first_window),
                            a.residual_stored,
                            1};
  dispatch_roles(static_cast<int>(a.columns.weight[2] / kGroup), [&](auto roles) {
    constexpr int R = roles.value;
    const ColumnsArguments& forward = arguments.forward;
    const std::size_t group = GroupMemory<R>::bytes(forward.fan_in, forward.slots);
    const auto run = [&]<int kRounds>(std::integral_constant<int, kRounds>) {
      using Layout = BackwardLayout<R, kRounds>;
      const Layout layout(forward.fan_in, forward.opener_vectors);
      const auto fits = [&](int sums_tiles) { return group + layout.bytes(sums_tiles) + kDeclared <= device.shared_memory(); };
      if (kRounds > 1 && !fits(1)) return false;
      arguments.sums_tiles = kRounds > 1 && fits(2) ? 2 : 1;
      const std::size_t shared = group + layout.bytes(arguments.sums_tiles);
      const auto with = [&](auto kernel) {
        launch_with(device, "cortical_columns_backward", kernel,
                    dim3(static_cast<unsigned>(a.columns.weight[0]), static_cast<unsigned>(a.parts)), dim3(Layout::kThreads),
                    shared, arguments);
      };
      if (forward.opener.data) with(backward_kernel<R, true, kRounds>);
      else with(backward_kernel<R, false, kRounds>);
      return true;
    };
    if (!run(std::integral_constant<int, 2>{})) run(std::integral_constant<int, 1>{});
  });
}

}  // namespace neurogen
