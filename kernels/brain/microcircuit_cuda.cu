// The microcircuit's forward pass, and the gate's backward pass.
#include "kernels/brain/microcircuit_cuda.cuh"

namespace neurogen {
namespace {

constexpr int kRun = 8;  // tokens that a warp takes in a round

template <typename Low, int R, bool gated>
__global__ void __launch_bounds__(kThreads, 2)
    forward_kernel(const CircuitArguments<Low> a, Columns<float> states, Columns<GradientOf<Low>> pre_norm) {
  __shared__ Map maps[2][kWarps][kLanes];
  const Lane<Low, R, gated> x(a, static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x));
  float* const stored = states.data ? states.at(blockIdx.x, x.column) : nullptr;
  float state = stored ? *stored : 0.0f;
  int turn = 0;
  for (int round = 0; round < a.window; round += kWarps * kRun) {
    const int begin = round + x.warp * kRun;
    float u[kRun][R], opener[kRun], residual[kRun], forget[kRun], shift[kRun];
#pragma unroll
    for (int k = 0; k < kRun; ++k) {
      const int t = min(begin + k, a.window - 1);
#pragma unroll
      for (int r = 0; r < R; ++r) u[k][r] = x.current(t, r);
      opener[k] = x.opener(t);
      residual[k] = x.residual(t);
    }
    const unsigned starts = x.starts(begin);
    Map map;
#pragma unroll
    for (int k = 0; k < kRun; ++k) {
      const int t = begin + k;
      Factors factors;
      factors.template compute<gated>(u[k][1], x.retain, opener[k]);
      forget[k] = t > 0 && (starts >> k & 1) ? 0.0f : factors.forget;  // a window's first token keeps the given state
      shift[k] = factors.input() * u[k][0];
      if (t >= a.window) forget[k] = 1.0f, shift[k] = 0.0f;
      map.then(forget[k], shift[k]);
    }
    float h = exchange<false>(maps, turn, map, state);
#pragma unroll
    for (int k = 0; k < kRun; ++k) {
      h = forget[k] * h + shift[k];
      if (begin + k < a.window)
        *pre_norm.at(x.token + begin + k, x.column) = from_float<GradientOf<Low>>(output_of<R>(h, u[k], residual[k]));
    }
  }
  if (stored && x.warp == 0) *stored = state;
}

constexpr int kGateWarps = 16;

// A block takes 32 openers of one window, and its warps take the tokens in turn.
template <typename Low>
__global__ void __launch_bounds__(32 * kGateWarps)
    gate_kernel(Columns<const GradientOf<Low>> d_gate, Columns<const Low> opener, const float* bias, int openers, int stripe,
                int window, Columns<GradientOf<Low>> d_opener, float* window_sums) {
  __shared__ float sums[kGateWarps][32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int p = static_cast<int>(blockIdx.x) * 32 + lane;
  const float shift = p < openers ? bias[p] : 0.0f;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * window;
  float sum = 0.0f;
  for (int t = warp; t < window && p < openers; t += kGateWarps) {
    const GradientOf<Low>* const behind = d_gate.at(first + t, p * stripe);
    float d = 0.0f;
    if (stripe % 4 == 0)
      for (int j = 0; j < stripe; j += 4) {
        const float4 four = load_four(behind + j);
        d += four.x + four.y + four.z + four.w;
      }
    else
      for (int j = 0; j < stripe; ++j) d += to_float(behind[j]);
    const float open = sigmoid_of(read(opener.at(first + t, p)) + shift);
    d *= open * (1.0f - open);
    *d_opener.at(first + t, p) = from_float<GradientOf<Low>>(d);
    sum += d;
  }
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || p >= openers) return;
  float of_window = 0.0f;
  for (int i = 0; i < kGateWarps; ++i) of_window += sums[i][lane];
  window_sums[blockIdx.y * openers + p] = of_window;
}

// Adds the windows' sums, in order, to the total.
__global__ void gate_totals_kernel(const float* window_sums, int openers, int windows, float* d_bias) {
  const int p = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (p >= openers) return;
  float total = d_bias[p];
  for (int w = 0; w < windows; ++w) total += window_sums[w * openers + p];
  d_bias[p] = total;
}

}  // namespace

void microcircuit_forward(CudaDevice& device, const MicrocircuitForward& a) {
  require_f32("microcircuit_forward: the state must be f32", {a.state});
  const DType low = low_type(a.pre_norm.dtype, {a.residual, a.gate.opener});
  require_operands(a.pre_norm.dtype == gradient_of(low), "microcircuit_forward: the output has the wrong type");
  dispatch_circuit(a.currents, a.window, static_cast<bool>(a.gate.opener), low, [&](auto zero, auto roles, auto gated) {
    using Low = decltype(zero);
    launch(device, "microcircuit_forward", forward_kernel<Low, roles.value, gated.value>,
           dim3(static_cast<unsigned>(a.currents[1] / a.window), static_cast<unsigned>(a.currents[0])), dim3(kThreads), 0,
           arguments_of<Low>(a), Columns<float>(a.state), Columns<GradientOf<Low>>(a.pre_norm));
  });
}

void gate_backward(CudaDevice& device, const GateBackward& a) {
  require_f32("gate_backward: biases and sums must be f32", {a.gate.bias, a.d_bias, a.sums});
  for (const TensorView& view : {a.d_gate, a.d_opener})
    require_operands(view.dtype == gradient_of(a.gate.opener.dtype),
                     "gate_backward: the gradient of gate or opener has the wrong type");
  require_operands(a.gate.first_output == 0 && a.d_gate[1] == a.gate.opener[1] * a.gate.stripe,
                   "gate_backward: the views must cover the whole module");
  require_operands(a.sums && a.sums.contiguous() && a.sums.elements() * a.window == a.d_gate[0] * a.gate.opener[1],
                   "gate_backward: the windows' sums have the wrong shape");
  require_operands(a.window > 0 && a.d_gate[0] % a.window == 0, "gate_backward: the tokens must be whole windows");
  dispatch_float(a.gate.opener.dtype, [&](auto zero) {
    using Low = decltype(zero);
    const int openers = static_cast<int>(a.gate.opener[1]), stripe = static_cast<int>(a.gate.stripe),
              window = static_cast<int>(a.window), windows = static_cast<int>(a.d_gate[0] / a.window);
    launch(device, "gate_backward", gate_kernel<Low>, dim3(pieces(openers, 32), static_cast<unsigned>(windows)),
           dim3(32 * kGateWarps), 0, Columns<const GradientOf<Low>>(a.d_gate), Columns<const Low>(a.gate.opener),
           a.gate.bias.as<const float>(), openers, stripe, window, Columns<GradientOf<Low>>(a.d_opener), a.sums.as<float>());
    launch(device, "gate_backward", gate_totals_kernel, dim3(pieces(openers, 64)), dim3(64), 0, a.sums.as<const float>(), openers,
           windows, a.d_bias.as<float>());
  });
}

}  // namespace neurogen
