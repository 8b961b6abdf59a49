// The way back through a module's column groups: currents again, through norm, microcircuit and recurrence, then the
// gradients of weights (which stay in registers over all tokens) and of each slot's sources.
#include "kernels/cortical_columns_cuda.cuh"

namespace neurogen {
namespace {

struct ColumnsBackward {
  ColumnsArguments forward;
  Columns<const Low> d_out_low;  // the decoder gives it in bf16,
  Columns<const float> d_out;    // the modules in f32
  const float *inverse_rms, *dot, *gain;
  Low* d_selected;  // [G K, N, width]
  float* d_weight;  // [G, F, 32R]
  float* d_bias;    // [R, 32G]
  std::int64_t d_bias_stride;
  float *d_retain, *d_gain;
  Columns<float> d_residual, d_gate;
  int parts, first_window;
};

// This warp's part of the weights' gradient: its team's share of the fan-in, one role.
template <typename Group>
struct WeightGradient {
  static constexpr int kMostTiles = static_cast<int>(kColumnsMostFanIn) / 16 / Group::kTeams;  // of 16 sources, kStep apart
  static constexpr int kStep = 16 * Group::kTeams;
  const Group& x;
  float* const group;  // [F, 32R]
  Accumulators<kMostTiles, 4> acc;

  __device__ WeightGradient(const Group& x_, float* d_weight)
      : x(x_), group(d_weight + static_cast<std::int64_t>(x_.group) * x_.a.fan_in * Group::kColumns) {
    each([](const float2& from, float& p, float& q) { p = from.x, q = from.y; });
  }
  __device__ void store() {
    each([](float2& to, float p, float q) { to = {p, q}; });
  }
  static __device__ int begin() { return thread_again() / 32 / Group::kRoles * 16; }  // the first tile's first source
  static __device__ int column() { return thread_again() / 32 % Group::kRoles * 32; }
  template <typename Body>
  __device__ void each(Body&& body) {
    const int first = begin();
    float* const stored = group + column();
#pragma unroll
    for (int i = 0; i < kMostTiles; ++i)
      if (first + i * kStep < x.a.fan_in)
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
          for (int e = 0; e < 4; e += 2)
            body(*reinterpret_cast<float2*>(stored + (first + i * kStep + row_of(0, e)) * Group::kColumns + column_of(j)), acc[i][j][e],
                 acc[i][j][e + 1]);
  }
  // += sources^T d_currents over a round's tokens.
  __device__ void add(const Low* sources, const Low* d_currents) {
    const int lane = thread_again() % 32, near = lane % 8, second = lane / 8 % 2 * 8, third = lane / 16 * 8;
    const int first = begin();
    const Low* const a_lane = sources + (near + third) * x.source_pitch + first + second;
    const Low* const b_lane = d_currents + (near + second) * Group::kPitch + column() + third;
#pragma unroll 1
    for (int k = 0; k < Group::kTokens; k += 16) {
      std::uint32_t left[4], right[4];
      load_matrices<true>(left, b_lane + k * Group::kPitch);
      load_matrices<true>(right, b_lane + k * Group::kPitch + 16);
#pragma unroll
      for (int i = 0; i < kMostTiles; ++i)
        if (first + i * kStep < x.a.fan_in) {
          std::uint32_t rows[4];
          load_matrices<true>(rows, a_lane + k * x.source_pitch + i * kStep);
          multiply_add<Low>(acc[i][0], rows, left[0], left[1]);
          multiply_add<Low>(acc[i][1], rows, left[2], left[3]);
          multiply_add<Low>(acc[i][2], rows, right[0], right[1]);
          multiply_add<Low>(acc[i][3], rows, right[2], right[3]);
        }
    }
  }
};

// d_selected of one team's rows and 16 sources = d_currents weight^T. The weights' rows are named so that a thread's
// accumulators are neighbouring sources: element e of tile j is source 4 q + 2 j + e. `to`: of these sources and the round's
// first token.
template <typename Group>
__device__ void sources_gradient(const Group& x, const Low* d_currents, int team, int source, int rows_left, int width, Low* to) {
  const int lane = thread_again() % 32, near = lane % 8, second = lane / 8 % 2 * 8, third = lane / 16;
  const Low* const a_lane = d_currents + (team * Group::kRows + near + second) * Group::kPitch + third * 8;
  const Low* const b_lane = x.weight + Group::weight_row(source + near / 2 * 4 + near % 2 + 2 * third) + second;
  Accumulators<Group::kRowTiles, 2> acc;
  clear_accumulators<Group::kRowTiles, 2>(acc);
#pragma unroll 2
  for (int k = 0; k < Group::kColumns; k += 16) {
    std::uint32_t columns[4];
    load_matrices<false>(columns, b_lane + k);
#pragma unroll
    for (int i = 0; i < Group::kRowTiles; ++i) {
      std::uint32_t rows[4];
      load_matrices<false>(rows, a_lane + 16 * i * Group::kPitch + k);
      multiply_add<Low>(acc[i][0], rows, columns[0], columns[1]);
      multiply_add<Low>(acc[i][1], rows, columns[2], columns[3]);
    }
  }
#pragma unroll
  for (int i = 0; i < Group::kRowTiles; ++i)
#pragma unroll
    for (int e = 0; e < 4; e += 2) {
      const int row = team * Group::kRows + row_of(i, e);
      if (row < rows_left)
        store_four(to + row * width + lane % 4 * 4, {acc[i][0][e], acc[i][0][e + 1], acc[i][1][e], acc[i][1][e + 1]});
    }
}

// The state before this warp's run (in reverse: behind it), from all runs' maps and the state before the first (behind the
// last) of them. Warps without a run only take part.
template <bool reverse, int warps>
__device__ float entering(Map (&maps)[warps][kLanes], const Map& mine, float state) {
  const int thread = thread_again(), lane = thread % 32, warp = thread / 32;
  if (warp < warps) maps[warp][lane] = mine;
  __syncthreads();
  if (warp >= warps) return 0.0f;
#pragma unroll 4
  for (int i = 0; i < (reverse ? warps - 1 - warp : warp); ++i) {
    const Map map = maps[reverse ? warps - 1 - i : i][lane];
    state = map.scale * state + map.shift;
  }
  return state;
}

// A block: one group, and of all windows each `parts`-th, counted from the batch's first. Its sums go to its part of the
// gradients. A round's scans leave its currents' gradients; the products with these and the next round's currents come
// between the same two barriers, so that no warp waits for another's latency.
template <typename Group, bool gated>
__global__ void __launch_bounds__(Group::kThreads, 1) backward_kernel(const ColumnsBackward b) {
#if __CUDA_ARCH__ >= 800
  constexpr int R = Group::kRoles, kRun = Group::kRun, kTokens = Group::kTokens, kSums = R + 2;  // biases, retain, gain
  constexpr bool kAhead = Group::kSourceTiles == 2;
  static_assert(Group::kScanTokens == kTokens);
  __shared__ Map maps[2][Group::kScanWarps][kLanes];
  __shared__ float following[kLanes];  // f g of the token behind a round: what reaches its last state through the next
  const ColumnsArguments& a = b.forward;
  const int part = static_cast<int>(blockIdx.y), groups = static_cast<int>(gridDim.x);
  const Group x(a, static_cast<int>(blockIdx.x));
  WeightGradient<Group> d_weight(x, b.d_weight + static_cast<std::int64_t>(part) * groups * a.fan_in * Group::kColumns);
  const float retain = read(a.retain + x.column), gain = read(b.gain + x.column);
  const float gate_bias = gated ? read(a.gate_bias + x.column / a.stripe) : 0.0f;
  const int opener = gated ? x.opener_of_lane() : 0;
  const int width = 1 << a.width_bits;
  const std::int64_t tokens = static_cast<std::int64_t>(a.windows) * a.window;
  Low* const d_currents = reinterpret_cast<Low*>(x.slots + a.slots);
  auto* const d_outs = reinterpret_cast<float*>(d_currents + kTokens * Group::kPitch);  // or bf16
  float* const d_residuals = d_outs + kTokens * kLanes;
  float *const inverses = d_residuals + kTokens * kLanes, *const dots = inverses + kTokens, *const states = dots + kTokens;
  int* const firsts = reinterpret_cast<int*>(states + kTokens / kCarryTokens * kLanes);
  Low* const residuals = reinterpret_cast<Low*>(firsts + kTokens);
  Low* const openers = residuals + kTokens * kLanes;
  const auto load_outputs = [&](int window, int begin) {
    if (b.d_out.data) x.load_outputs(b.d_out, window, begin, d_outs);
    else x.load_outputs(b.d_out_low, window, begin, reinterpret_cast<Low*>(d_outs));
    if (a.residual.data) {
      x.load_outputs(a.residual, window, begin, residuals);
      x.load_outputs(b.d_residual, window, begin, d_residuals);
    }
    if (x.thread < kTokens) {
      const int n = window * a.window + min(begin + x.thread, a.window - 1);
      copy_word_behind(inverses + x.thread, b.inverse_rms + n);
      copy_word_behind(dots + x.thread, b.dot + n);
      copy_word_behind(firsts + x.thread, a.first + n);
    }
    if (x.thread < kLanes)
      copy_word_behind(states + x.thread, a.carried + (window * a.carries + begin / kCarryTokens) * a.carried_stride + x.column);
    if (gated) x.load_openers(window, begin, openers);
    close_stage();
  };
  const auto load_sources = [&](int window, int begin, int tile) {
    x.load_sources(window, begin, x.source_tile(tile));
    close_stage();
  };
  // Each total is one thread's, which adds to it window by window.
  float* total_at = nullptr;
  if (x.warp < kSums)
    total_at = (x.warp < R ? b.d_bias + (part * R + x.warp) * b.d_bias_stride
                           : (x.warp == R ? b.d_retain : b.d_gain) + part * groups * kLanes) + x.column;
  float total = total_at ? *total_at : 0.0f;

  const int last_round = (a.window - 1) / kTokens * kTokens;
  int window = (part - b.first_window % b.parts + b.parts) % b.parts, round = last_round, tile = 0;
  if (window >= a.windows) return;
  const auto advance = [&](int& of, int& begin) {
    begin -= kTokens;
    if (begin < 0) begin = last_round, of += b.parts;
  };
  load_sources(window, round, 0);
  load_outputs(window, round);
  await_stages<0>();
  __syncthreads();
  x.multiply_sources(x.source_tile(0));
  __syncthreads();
  if (kAhead) {
    int then = window, begin = round;
    advance(then, begin);
    if (then < a.windows) load_sources(then, begin, 1);
  }

  float sums[kSums] = {};
  while (true) {
    const int lane = thread_again() % 32, warp = thread_again() / 32, row = warp * kRun, begin = round + row;
    const bool scans = warp < Group::kScanWarps;
    const std::int64_t token = static_cast<std::int64_t>(window) * a.window;
    const float* const u = x.currents + row * Group::kPitch + lane;
    float before[kRun], d_y[kRun];
    Factors factors[kRun];
    Map map;
    if (scans)
#pragma unroll
      for (int k = 0; k < kRun; ++k) {
        const float open = gated ? to_float(openers[(row + k) * a.opener_vectors * kVector<Low> + opener]) + gate_bias : 0.0f;
        if (begin + k < a.window) factors[k].template compute<gated>(u[k * Group::kPitch + kLanes], retain, open);
        if (firsts[row + k] == begin + k) factors[k].forget = 0.0f;
        map.then(factors[k].forget, factors[k].input() * u[k * Group::kPitch]);
      }
    float h = entering<false>(maps[0], map, states[lane]);
    Low* const d_u = d_currents + row * Group::kPitch + lane;
    const auto give = [&](int k, int role, float gradient) {
      d_u[k * Group::kPitch + role * kLanes] = from_float<Low>(gradient);
      sums[role] += gradient;
    };
    map = {};
    if (scans) {
      // Through the norm (rms_norm.h), from the output made again, and through the roles that shape it.
#pragma unroll
      for (int k = 0; k < kRun; ++k) {
        const int at = (row + k) * kLanes + lane;
        const float d_out = b.d_out.data ? d_outs[at] : to_float(reinterpret_cast<const Low*>(d_outs)[at]);
        const float inverse = inverses[row + k];
        float roles[R];
#pragma unroll
        for (int r = 0; r < R; ++r) roles[r] = u[k * Group::kPitch + r * kLanes];
        before[k] = firsts[row + k] == begin + k ? 0.0f : h;
        h = factors[k].forget * h + factors[k].input() * roles[0];
        const float normed = (output_of<R>(h, roles) + (a.residual.data ? to_float(residuals[at]) : 0.0f)) * inverse;
        float d = inverse * (gain * d_out - normed * dots[row + k]);
        if (begin + k >= a.window) d = 0.0f;
        else {
          sums[R + 1] += d_out * normed;
          if (a.residual.data) *b.d_residual.at(token + begin + k, x.column) = d_residuals[at] + d;
        }
        d_y[k] = through_roles<R>(d, h, roles, [&](int role, float gradient) { give(k, role, gradient); });
      }
      // Through the recurrence: g_t = d_y_t + f_{t+1} g_{t+1}.
#pragma unroll
      for (int k = kRun - 1; k >= 0; --k) map.then(factors[k].forget, factors[k].forget * d_y[k]);
    }
    float d_h = entering<true>(maps[1], map, round == last_round ? 0.0f : following[lane]);
    if (scans) {
#pragma unroll
      for (int k = kRun - 1; k >= 0; --k) {
        d_h += d_y[k];
        const bool inside = begin + k < a.window;
        const float slope = inside ? d_h * (before[k] - u[k * Group::kPitch]) * factors[k].raw : 0.0f;
        if constexpr (gated) {
          if (inside) *b.d_gate.at(token + begin + k, x.column) = -slope;
        }
        const float d_forget = slope * factors[k].open * (1.0f - factors[k].raw);
        give(k, 0, inside ? d_h * factors[k].input() : 0.0f);
        give(k, 1, d_forget);
        sums[R] += d_forget;
        d_h *= factors[k].forget;
      }
    }
    await_stages<0>();
    __syncthreads();  // the currents' gradients are there, the next sources too; currents and outputs have been read
    if (warp == 0) following[lane] = d_h;
    const bool window_ends = round == 0;
    const Low* const sources = x.source_tile(tile);
    Low* const to = b.d_selected + (static_cast<std::int64_t>(x.group) * a.slots * tokens + token + round) * width;
    const int left = a.window - round;
    advance(window, round);
    const bool more = window < a.windows;
    if (more) load_outputs(window, round);
    d_weight.add(sources, d_currents);
    // The last teams have the fewest tiles of weights.
#pragma unroll 1
    for (int unit = Group::kWarps - 1 - thread_again() / 32; unit < Group::kTeams * a.fan_in / 16; unit += Group::kWarps) {
      const int source = unit / Group::kTeams * 16, in_slot = source & (width - 1);
      sources_gradient(x, d_currents, unit % Group::kTeams, source, left, width, to + (source - in_slot) * tokens + in_slot);
    }
    if (window_ends) {  // the window's sums pass through the currents' memory
      if (scans)
#pragma unroll
        for (int s = 0; s < kSums; ++s) {
          x.currents[(s * Group::kScanWarps + warp) * kLanes + lane] = sums[s];
          sums[s] = 0.0f;
        }
      __syncthreads();
      if (warp < kSums) {
        float sum = 0.0f;
        for (int w = 0; w < Group::kScanWarps; ++w) sum += x.currents[(warp * Group::kScanWarps + w) * kLanes + lane];
        total += sum;
      }
      __syncthreads();
    }
    if (!more) break;
    if constexpr (kAhead) tile ^= 1;
    else {
      __syncthreads();
      load_sources(window, round, 0);
      await_stages<0>();
      __syncthreads();
    }
    x.multiply_sources(x.source_tile(tile));
    await_stages<0>();
    __syncthreads();  // currents and outputs are there; the sources before these have been read
    if (kAhead) {
      int then = window, next = round;
      advance(then, next);
      if (then < a.windows) load_sources(then, next, tile ^ 1);
    }
  }
  if (total_at) *total_at = total;
  d_weight.store();
#endif
}

template <int kThreadsOfSum>
__global__ void sum_kernel(const float* parts, int count, std::int64_t stride, float* total, std::int64_t elements) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreadsOfSum + threadIdx.x) * 4;
  if (i >= elements) return;
  float4 sum = load_four(total + i);
  for (int p = 0; p < count; ++p) {
    const float4 part = load_four(parts + p * stride + i);
    sum = {sum.x + part.x, sum.y + part.y, sum.z + part.z, sum.w + part.w};
  }
  store_four(total + i, sum);
}

}  // namespace

void cortical_columns_backward(CudaDevice& device, const CorticalColumnsBackward& a) {
  require_f32("cortical_columns_backward: all but outputs' and slots' gradients is f32",
              {a.inverse_rms, a.dot, a.gain, a.d_weight, a.d_bias, a.d_retain, a.d_gain, a.d_residual, a.d_gate});
  require_operands(a.d_out.dtype == DType::bf16 || a.d_out.dtype == DType::f32,
                   "cortical_columns_backward: the output's gradient is bf16 or f32");
  require_operands(a.d_selected.dtype == DType::bf16 && a.d_selected.contiguous() && a.d_weight.contiguous(),
                   "cortical_columns_backward: the slots' gradient is bf16, it and the weights' are contiguous");
  require_operands(a.parts > 0 && a.d_weight[0] == a.parts * a.columns.weight[0], "cortical_columns_backward: gradients in other parts");
  if (a.columns.first[0] == 0) return;
  const bool wide = a.d_out.dtype == DType::f32;
  const ColumnsBackward arguments{arguments_of(a.columns),
                                  Columns<const Low>(a.d_out),
                                  Columns<const float>(wide ? a.d_out : TensorView{}),
                                  a.inverse_rms.as<const float>(),
                                  a.dot.as<const float>(),
                                  a.gain.as<const float>(),
                                  a.d_selected.as<Low>(),
                                  a.d_weight.as<float>(),
                                  a.d_bias.as<float>(),
                                  a.d_bias.row_stride,
                                  a.d_retain.as<float>(),
                                  a.d_gain.as<float>(),
                                  Columns<float>(a.d_residual),
                                  Columns<float>(a.d_gate),
                                  static_cast<int>(a.parts),
                                  static_cast<int>(a.first_window)};
  const auto pitch = static_cast<std::size_t>(pitch_of<Low>(static_cast<int>(a.columns.weight[2])));
  const std::size_t per_token = sizeof(Low) * (pitch + kGroup) + sizeof(float) * (2 * kGroup + 3 + kGroup / kCarry);
  dispatch_columns<1, 2>(device, a.columns, per_token, [&]<typename Group>(std::type_identity<Group>, auto gated, std::size_t shared) {
    launch_with(device, "cortical_columns_backward", backward_kernel<Group, gated.value>,
                dim3(static_cast<unsigned>(a.columns.weight[0]), static_cast<unsigned>(a.parts)), dim3(Group::kThreads), shared, arguments);
  });
}

void cortical_columns_sum(CudaDevice& device, const CorticalColumnsSum& a) {
  require_f32("cortical_columns_sum: gradients are f32", {a.parts, a.total});
  const std::int64_t elements = a.total.elements();
  require_operands(a.total.contiguous() && a.parts.contiguous() && elements % 4 == 0 && a.parts.elements() % elements == 0,
                   "cortical_columns_sum: the parts are not whole totals");
  constexpr int kThreadsOfSum = 256;
  launch(device, "cortical_columns_sum", sum_kernel<kThreadsOfSum>, dim3(pieces(elements, 4 * kThreadsOfSum)), dim3(kThreadsOfSum), 0,
         a.parts.as<const float>(), static_cast<int>(a.parts.elements() / elements), elements, a.total.as<float>(), elements);
}

}  // namespace neurogen
