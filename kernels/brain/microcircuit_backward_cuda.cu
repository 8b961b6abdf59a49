// The microcircuit's backward pass: recomputes the states, then scans from the end.
#include "kernels/brain/microcircuit_cuda.cuh"

namespace neurogen {
namespace {

constexpr int kRun = 4;  // tokens that a warp takes in a round

template <typename Low>
struct CircuitBackward {
  CircuitArguments<Low> forward;
  Columns<const Low> d_out_low;  // d_out in the compute type,
  Columns<const float> d_out;    // or in f32
  const float *inverse_rms, *dot, *gain;
  float* hidden;  // [G, N, 32]
  std::int64_t hidden_stride;
  Low* d_currents;  // [G, N, 32R]
  std::int64_t d_currents_stride;
  float *d_retain, *d_gain;
  Columns<GradientOf<Low>> d_residual, d_gate;
};

// `hidden` holds the states before each round, at the rounds' first tokens, and finally the window's sums for d_retain and d_gain,
// in its first two rows. With one block for all windows, the sums are added to their totals at once, in order.
template <typename Low, int R, bool gated>
__global__ void __launch_bounds__(kThreads, 2) backward_kernel(const CircuitBackward<Low> b) {
  __shared__ Map maps[2][kWarps][kLanes];
  __shared__ float sums[2][kWarps][kLanes];
  const CircuitArguments<Low>& a = b.forward;
  const int g = static_cast<int>(blockIdx.y);
  int turn = 0;
  for (int window = static_cast<int>(blockIdx.x); window < a.windows; window += static_cast<int>(gridDim.x)) {
    const Lane<Low, R, gated> x(a, g, window);
    float* const hidden = b.hidden + g * b.hidden_stride + x.token * kLanes + x.lane;
    Low* const d_currents = b.d_currents + g * b.d_currents_stride + x.token * (R * kLanes) + x.lane;
    const float gain = read(b.gain + x.column);
    float d_retain = 0.0f, d_gain = 0.0f;

    // Computes the states before each round: a warp composes a whole round, so that one exchange serves eight.
    constexpr int kRound = kWarps * kRun;
    float state = 0.0f;
    for (int rounds = 0; rounds < a.window; rounds += kWarps * kRound) {
      const int begin = rounds + x.warp * kRound;
      const unsigned starts = x.starts(begin);
      Map map;
#pragma unroll 8
      for (int k = 0; k < kRound; ++k) {
        const int t = min(begin + k, a.window - 1);
        Factors factors;
        factors.template compute<gated>(x.current(t, 1), x.retain, x.opener(t));
        const float shift = factors.input() * x.current(t, 0);
        map.then(starts >> k & 1 ? 0.0f : factors.forget, shift);
      }
      const float entering = exchange<false>(maps, turn, map, state);
      if (begin < a.window) hidden[begin * kLanes] = entering;
    }

    float behind = 0.0f;  // f g of the next token: the gradient that reaches this state through it
    for (int round = (a.window - 1) / kRound * kRound; round >= 0; round -= kRound) {
      const int begin = round + x.warp * kRun;
      float u[kRun][R], d_out[kRun], residual[kRun], d_residual[kRun], inverse[kRun], dot[kRun], before[kRun], d_y[kRun];
      Factors factors[kRun];
#pragma unroll
      for (int k = 0; k < kRun; ++k) {
        const int t = min(begin + k, a.window - 1);
        const std::int64_t n = x.token + t;
#pragma unroll
        for (int r = 0; r < R; ++r) u[k][r] = x.current(t, r);
        d_y[k] = x.opener(t);
        d_out[k] = b.d_out.data ? read(b.d_out.at(n, x.column)) : read(b.d_out_low.at(n, x.column));
        residual[k] = x.residual(t);
        d_residual[k] = b.d_residual.data ? to_float(*b.d_residual.at(n, x.column)) : 0.0f;
        inverse[k] = read(b.inverse_rms + n);
        dot[k] = read(b.dot + n);
      }
      const unsigned starts = x.starts(begin);
      Map map;
#pragma unroll
      for (int k = 0; k < kRun; ++k) {
        if (begin + k < a.window) factors[k].template compute<gated>(u[k][1], x.retain, d_y[k]);
        if (starts >> k & 1) factors[k].forget = 0.0f;
        map.then(factors[k].forget, factors[k].input() * u[k][0]);
      }
      __syncthreads();  // the states before the rounds are visible to all
      state = hidden[round * kLanes];
      float h = exchange<false>(maps, turn, map, state);

      // Through the norm (rms_norm.h), using the recomputed output, and through the roles that shape it.
#pragma unroll
      for (int k = 0; k < kRun; ++k) {
        const int t = begin + k;
        before[k] = starts >> k & 1 ? 0.0f : h;
        h = factors[k].forget * h + factors[k].input() * u[k][0];
        d_y[k] = 0.0f;
        if (t >= a.window) continue;
        const float normed = output_of<R>(h, u[k], residual[k]) * inverse[k];
        d_gain += d_out[k] * normed;
        const float d = inverse[k] * (gain * d_out[k] - normed * dot[k]);
        if (b.d_residual.data) *b.d_residual.at(x.token + t, x.column) = from_float<GradientOf<Low>>(d_residual[k] + d);
        Low* const d_u = d_currents + t * (R * kLanes);
        d_y[k] = through_roles<R>(d, h, u[k], [&](int role, float gradient) { d_u[role * kLanes] = from_float<Low>(gradient); });
      }

      // Through the recurrence: g_t = d_y_t + f_{t+1} g_{t+1}.
      map = {};
#pragma unroll
      for (int k = kRun - 1; k >= 0; --k) map.then(factors[k].forget, factors[k].forget * d_y[k]);
      float d_h = exchange<true>(maps, turn, map, behind);
#pragma unroll
      for (int k = kRun - 1; k >= 0; --k) {
        const int t = begin + k;
        d_h += d_y[k];
        if (t < a.window) {
          Low* const d_u = d_currents + t * (R * kLanes);
          const float slope = d_h * (before[k] - u[k][0]) * factors[k].raw;
          if constexpr (gated) *b.d_gate.at(x.token + t, x.column) = from_float<GradientOf<Low>>(-slope);
          const float d_forget = slope * factors[k].open * (1.0f - factors[k].raw);
          d_u[0] = from_float<Low>(d_h * factors[k].input());
          d_u[kLanes] = from_float<Low>(d_forget);
          d_retain += d_forget;
        }
        d_h *= factors[k].forget;
      }
    }

    sums[0][x.warp][x.lane] = d_retain;
    sums[1][x.warp][x.lane] = d_gain;
    __syncthreads();
    if (x.warp < 2) {
      float sum = 0.0f;
      for (int w = 0; w < kWarps; ++w) sum += sums[x.warp][w][x.lane];
      if (gridDim.x == 1) (x.warp == 0 ? b.d_retain : b.d_gain)[x.column] += sum;
      else hidden[x.warp * kLanes] = sum;
    }
    __syncthreads();
  }
}

// Adds the windows' sums, in order, to the totals.
__global__ void totals_kernel(const float* hidden, std::int64_t hidden_stride, int window, int windows, float* d_retain,
                              float* d_gain) {
  const int lane = static_cast<int>(threadIdx.x) % 32, which = static_cast<int>(threadIdx.x) / 32;
  const float* const sums = hidden + blockIdx.x * hidden_stride + which * kLanes + lane;
  float& total = (which == 0 ? d_retain : d_gain)[blockIdx.x * kLanes + lane];
  float sum = total;
  for (int w = 0; w < windows; ++w) sum += sums[static_cast<std::int64_t>(w) * window * kLanes];
  total = sum;
}

}  // namespace

void microcircuit_backward(CudaDevice& device, const MicrocircuitBackward& a) {
  require_f32("microcircuit_backward: all operands but outputs and currents' gradients must be f32",
              {a.inverse_rms, a.dot, a.gain, a.hidden, a.d_retain, a.d_gain});
  const DType low = low_type(a.d_currents.dtype, {a.residual, a.gate.opener, a.d_currents});
  require_operands((a.d_out.dtype == low || a.d_out.dtype == DType::f32) &&
                       (!a.d_residual || a.d_residual.dtype == gradient_of(low)) &&
                       (!a.d_gate || a.d_gate.dtype == gradient_of(low)),
                   "microcircuit_backward: the gradient of an output or a gate has the wrong type");
  dispatch_circuit(a.currents, a.window, static_cast<bool>(a.gate.opener), low, [&](auto zero, auto roles, auto gated) {
    using Low = decltype(zero);
    const auto windows = static_cast<unsigned>(a.currents[1] / a.window), groups = static_cast<unsigned>(a.currents[0]);
    const bool wide = a.d_out.dtype == DType::f32;
    const unsigned blocks = a.window > 1 ? windows : 1;  // a window's sums need two rows of `hidden`
    launch(device, "microcircuit_backward", backward_kernel<Low, roles.value, gated.value>, dim3(blocks, groups), dim3(kThreads), 0,
           CircuitBackward<Low>{arguments_of<Low>(a), Columns<const Low>(a.d_out),
                                Columns<const float>(wide ? a.d_out : TensorView{}), a.inverse_rms.as<const float>(),
                                a.dot.as<const float>(), a.gain.as<const float>(), a.hidden.as<float>(), a.hidden.row_stride,
                                a.d_currents.as<Low>(), a.d_currents.row_stride, a.d_retain.as<float>(), a.d_gain.as<float>(),
                                Columns<GradientOf<Low>>(a.d_residual), Columns<GradientOf<Low>>(a.d_gate)});
    if (blocks > 1)
      launch(device, "microcircuit_backward", totals_kernel, dim3(groups), dim3(64), 0, a.hidden.as<const float>(),
             a.hidden.row_stride, static_cast<int>(a.window), static_cast<int>(windows), a.d_retain.as<float>(),
             a.d_gain.as<float>());
  });
}

}  // namespace neurogen
