// The recurrence h_t = f_t h_{t-1} + i_t c_t is a scan: a step is the map h -> a h + b, and maps compose. A block takes one
// window of one column group, a warp's lanes its 32 outputs. Eight warps take a run of tokens each, compose their maps, hand the
// results to each other through shared memory and then know the state before their first token: a round of eight runs reads
// all its currents at once instead of one after the other. The way back is the same scan from the end.
//
// Tokens behind the window's end, in its last round, are read as its last one and left out of everything: without branches
// around the reads, all of a run's are on their way together.
#include "kernels/cuda_kernel.cuh"
#include "kernels/cuda_math.cuh"
#include "kernels/microcircuit.h"
#include "kernels/synapses.h"

namespace neurogen {
namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int kForwardRun = 8, kBackwardRun = 4;  // tokens that a warp takes in a round
constexpr int kLanes = static_cast<int>(kGroup);

// Part of a [N, columns] tensor; null: absent.
template <typename T>
struct Columns {
  T* data = nullptr;
  std::int64_t stride = 0;

  Columns() = default;
  explicit Columns(const TensorView& view) : data(view.as<T>()), stride(view.row_stride) {}
  __device__ T* at(std::int64_t n, int column) const { return data + n * stride + column; }
};

template <typename Low>
struct CircuitArguments {
  const float* currents;  // [G, N, 32R]
  std::int64_t group_stride;
  const float* retain;
  const int* first;
  int window, windows;
  Columns<const Low> opener;
  const float* gate_bias;
  int stripe, first_output;
  Columns<const Low> residual;
};

// What no kernel here writes: such reads may pass the writes before them.
template <typename T>
__device__ inline float read(const T* p) {
  return to_float(__ldg(p));
}

// A map h -> scale h + shift.
struct Map {
  float scale = 1.0f, shift = 0.0f;
  __device__ void then(float a, float b) {
    scale *= a;
    shift = a * shift + b;
  }
};

// All warps' maps of a round; returns the state before this warp's first token (in reverse: behind its last) and moves
// `state` past the round. Two buffers in turn, so that one barrier is enough.
template <bool reverse>
__device__ inline float exchange(Map (&maps)[2][kWarps][kLanes], int& turn, Map mine, float& state) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  maps[turn][warp][lane] = mine;
  __syncthreads();
  float entering = 0.0f;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) {
    const int w = reverse ? kWarps - 1 - i : i;
    if (w == warp) entering = state;
    const Map map = maps[turn][w][lane];
    state = map.scale * state + map.shift;
  }
  turn ^= 1;
  return entering;
}

// Forget and input factors of a token; as made, those of one that keeps the state. `raw` is i before the gate, without the
// loss of digits in 1 - f where tau is long.
struct Factors {
  float forget = 1.0f, raw = 0.0f, open = 1.0f;

  template <bool gated>
  __device__ void compute(float u1, float retain, float opener) {
    const float e = exp_of(fminf(-(u1 + retain), 80.0f)), shut = reciprocal(1.0f + e);
    raw = e * shut;
    open = gated ? sigmoid_of(opener) : 1.0f;
    forget = gated ? 1.0f - raw * open : shut;
  }
  __device__ float input() const { return raw * open; }
};

// What a thread knows of its output and window.
template <typename Low, int R, bool gated>
struct Lane {
  const CircuitArguments<Low>& a;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int column;                // in the range
  const std::int64_t token;        // the window's first
  const float* currents;           // of that token
  const float retain;
  const int behind;                // the opener behind this output
  const float gate_bias;

  __device__ Lane(const CircuitArguments<Low>& arguments, int g, int window)
      : a(arguments), column(g * kLanes + lane), token(static_cast<std::int64_t>(window) * a.window),
        currents(a.currents + g * a.group_stride + token * (R * kLanes) + lane), retain(read(a.retain + column)),
        behind(gated ? (a.first_output + column) / a.stripe : 0), gate_bias(gated ? read(a.gate_bias + behind) : 0.0f) {}

  __device__ float current(int t, int role) const { return read(currents + (t * R + role) * kLanes); }
  __device__ float opener(int t) const {
    if constexpr (gated) return read(a.opener.at(token + t, behind)) + gate_bias;
    else return 0.0f;
  }
  // Which of the 32 tokens from `begin` on start a document, as bits.
  __device__ unsigned starts(int begin) const {
    const int t = min(begin + lane, a.window - 1);
    return __ballot_sync(0xFFFFFFFFu, __ldg(a.first + token + t) == t);
  }
  __device__ float residual(int t) const { return a.residual.data ? read(a.residual.at(token + t, column)) : 0.0f; }
};

template <int R>
__device__ inline float output_of(float h, const float (&u)[R]) {
  if constexpr (R == 2) return h;
  else {
    float y = h * (u[2] * sigmoid_of(u[2]));
    if constexpr (R == 4) y += u[3];
    if constexpr (R == 5) y += u[3] * sigmoid_of(u[3]) * u[4];
    return y;
  }
}

template <typename Low, int R, bool gated>
__global__ void __launch_bounds__(kThreads, 2) forward_kernel(const CircuitArguments<Low> a, Columns<float> states, Columns<float> pre_norm) {
  __shared__ Map maps[2][kWarps][kLanes];
  const Lane<Low, R, gated> x(a, static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x));
  float* const stored = states.data ? states.at(blockIdx.x, x.column) : nullptr;
  float state = stored ? *stored : 0.0f;
  int turn = 0;
  constexpr int kRun = kForwardRun;
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
      forget[k] = t > 0 && (starts >> k & 1) ? 0.0f : factors.forget;  // a window's first token keeps the state it is given
      shift[k] = factors.input() * u[k][0];
      if (t >= a.window) forget[k] = 1.0f, shift[k] = 0.0f;
      map.then(forget[k], shift[k]);
    }
    float h = exchange<false>(maps, turn, map, state);
#pragma unroll
    for (int k = 0; k < kRun; ++k) {
      h = forget[k] * h + shift[k];
      if (begin + k < a.window) *pre_norm.at(x.token + begin + k, x.column) = output_of<R>(h, u[k]) + residual[k];
    }
  }
  if (stored && x.warp == 0) *stored = state;
}

template <typename Low>
struct CircuitBackward {
  CircuitArguments<Low> forward;
  Columns<const Low> d_out_low;  // the decoder gives it in the compute type,
  Columns<const float> d_out;    // the modules in f32
  const float *inverse_rms, *dot, *gain;
  float* hidden;  // [G, N, 32]
  std::int64_t hidden_stride;
  Low* d_currents;  // [G, N, 32R]
  std::int64_t d_currents_stride;
  float *d_retain, *d_gain;
  Columns<float> d_residual, d_gate;
};

// `hidden` holds the states before each round, at the rounds' first tokens, and at last the window's sums for d_retain and
// d_gain, in its first two rows. With one block for all windows the sums go to their totals at once, in order.
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

    // The states before each round: a warp composes a whole round, so that one exchange serves eight.
    constexpr int kRun = kBackwardRun, kRound = kWarps * kRun;
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

    float behind = 0.0f;  // f g of the token behind: what reaches this state through the next
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
        d_residual[k] = b.d_residual.data ? *b.d_residual.at(n, x.column) : 0.0f;
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
      __syncthreads();  // the states before the rounds are there for all
      state = hidden[round * kLanes];
      float h = exchange<false>(maps, turn, map, state);

      // Through the norm (rms_norm.h), from the output made again, and through the roles that shape it.
#pragma unroll
      for (int k = 0; k < kRun; ++k) {
        const int t = begin + k;
        before[k] = starts >> k & 1 ? 0.0f : h;
        h = factors[k].forget * h + factors[k].input() * u[k][0];
        d_y[k] = 0.0f;
        if (t >= a.window) continue;
        const float normed = (output_of<R>(h, u[k]) + residual[k]) * inverse[k];
        d_gain += d_out[k] * normed;
        float d = inverse[k] * (gain * d_out[k] - normed * dot[k]);
        if (b.d_residual.data) *b.d_residual.at(x.token + t, x.column) = d_residual[k] + d;
        Low* const d_u = d_currents + t * (R * kLanes);
        if constexpr (R == 4) d_u[3 * kLanes] = from_float<Low>(d);
        if constexpr (R == 5) {
          const float s = sigmoid_of(u[k][3]);
          d_u[3 * kLanes] = from_float<Low>(d * u[k][4] * s * (1.0f + u[k][3] * (1.0f - s)));
          d_u[4 * kLanes] = from_float<Low>(d * u[k][3] * s);
        }
        if constexpr (R > 2) {
          const float s = sigmoid_of(u[k][2]);
          d_u[2 * kLanes] = from_float<Low>(d * h * s * (1.0f + u[k][2] * (1.0f - s)));
          d *= u[k][2] * s;
        }
        d_y[k] = d;
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
          if constexpr (gated) *b.d_gate.at(x.token + t, x.column) = -slope;
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

// The windows' sums, in order, to the totals.
__global__ void totals_kernel(const float* hidden, std::int64_t hidden_stride, int window, int windows, float* d_retain, float* d_gain) {
  const int lane = static_cast<int>(threadIdx.x) % 32, which = static_cast<int>(threadIdx.x) / 32;
  const float* const sums = hidden + blockIdx.x * hidden_stride + which * kLanes + lane;
  float& total = (which == 0 ? d_retain : d_gain)[blockIdx.x * kLanes + lane];
  float sum = total;
  for (int w = 0; w < windows; ++w) sum += sums[static_cast<std::int64_t>(w) * window * kLanes];
  total = sum;
}

constexpr int kGateWarps = 32;

// A block: 32 openers, its warps taking a window's tokens in turn; the windows in order.
template <typename Low>
__global__ void __launch_bounds__(32 * kGateWarps) gate_kernel(Columns<const float> d_gate, Columns<const Low> opener, const float* bias,
                                                              int openers, int stripe, int window, int windows,
                                                              Columns<float> d_opener, float* d_bias) {
  __shared__ float sums[kGateWarps][32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int p = static_cast<int>(blockIdx.x) * 32 + lane;
  const float shift = p < openers ? bias[p] : 0.0f;
  float total = p < openers ? d_bias[p] : 0.0f;
  for (int w = 0; w < windows; ++w) {
    float sum = 0.0f;
    for (int t = warp; t < window && p < openers; t += kGateWarps) {
      const std::int64_t n = static_cast<std::int64_t>(w) * window + t;
      const float* const behind = d_gate.at(n, p * stripe);
      float d = 0.0f;
      if (stripe % 4 == 0)
        for (int j = 0; j < stripe; j += 4) {
          const float4 four = __ldg(reinterpret_cast<const float4*>(behind + j));
          d += four.x + four.y + four.z + four.w;
        }
      else
        for (int j = 0; j < stripe; ++j) d += behind[j];
      const float open = sigmoid_of(read(opener.at(n, p)) + shift);
      d *= open * (1.0f - open);
      *d_opener.at(n, p) += d;
      sum += d;
    }
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp == 0) {
      float of_window = 0.0f;
      for (int i = 0; i < kGateWarps; ++i) of_window += sums[i][lane];
      total += of_window;
    }
    __syncthreads();
  }
  if (warp == 0 && p < openers) d_bias[p] = total;
}

void require_f32(const char* sentence, std::initializer_list<TensorView> views) {
  for (const TensorView& view : views) require_operands(!view || view.dtype == DType::f32, sentence);
}

// The type of the operands that are stored in the compute type.
DType low_type(DType otherwise, std::initializer_list<TensorView> views) {
  DType type = otherwise;
  for (const TensorView& view : views)
    if (view) type = view.dtype;
  for (const TensorView& view : views)
    require_operands(!view || view.dtype == type, "microcircuit: residual and opener differ in type");
  return type;
}

template <typename Low, typename Operation>
CircuitArguments<Low> arguments_of(const Operation& a) {
  require_f32("microcircuit: currents, retain and the gate's bias are f32", {a.currents, a.retain, a.gate.bias});
  return {a.currents.template as<const float>(), a.currents.row_stride, a.retain.template as<const float>(),
          a.first.template as<const int>(), static_cast<int>(a.window), static_cast<int>(a.currents[1] / a.window),
          Columns<const Low>(a.gate.opener), a.gate.bias.template as<const float>(), static_cast<int>(a.gate.stripe),
          static_cast<int>(a.gate.first_output), Columns<const Low>(a.residual)};
}

// Calls body(Low{}, roles, gated), the last two as integral constants.
template <typename Body>
void dispatch_circuit(const TensorView& currents, std::int64_t window, bool gated, DType low, Body&& body) {
  const std::int64_t roles = currents[2] / kGroup;
  require_operands(roles >= 2 && roles <= 5 && currents[2] % kGroup == 0, "microcircuit: an output has 2 to 5 neurons");
  require_operands(window > 0 && currents[1] % window == 0, "microcircuit: the tokens are not whole windows");
  dispatch_float(low, [&](auto zero) {
    const auto with_gate = [&](auto r) {
      if (gated) body(zero, r, std::true_type{});
      else body(zero, r, std::false_type{});
    };
    if (roles == 2) with_gate(std::integral_constant<int, 2>{});
    if (roles == 3) with_gate(std::integral_constant<int, 3>{});
    if (roles == 4) with_gate(std::integral_constant<int, 4>{});
    if (roles == 5) with_gate(std::integral_constant<int, 5>{});
  });
}

}  // namespace

void microcircuit_forward(CudaDevice& device, const MicrocircuitForward& a) {
  require_f32("microcircuit_forward: state and output are f32", {a.state, a.pre_norm});
  const DType low = low_type(DType::f32, {a.residual, a.gate.opener});
  dispatch_circuit(a.currents, a.window, static_cast<bool>(a.gate.opener), low, [&](auto zero, auto roles, auto gated) {
    using Low = decltype(zero);
    launch(device, "microcircuit_forward", forward_kernel<Low, roles.value, gated.value>,
           dim3(static_cast<unsigned>(a.currents[1] / a.window), static_cast<unsigned>(a.currents[0])), dim3(kThreads), 0,
           arguments_of<Low>(a), Columns<float>(a.state), Columns<float>(a.pre_norm));
  });
}

void microcircuit_backward(CudaDevice& device, const MicrocircuitBackward& a) {
  require_f32("microcircuit_backward: all but outputs and currents' gradients are f32",
              {a.inverse_rms, a.dot, a.gain, a.hidden, a.d_retain, a.d_gain, a.d_residual, a.d_gate});
  const DType low = low_type(a.d_currents.dtype, {a.residual, a.gate.opener, a.d_currents});
  require_operands(a.d_out.dtype == low || a.d_out.dtype == DType::f32, "microcircuit_backward: the output's gradient has another type");
  dispatch_circuit(a.currents, a.window, static_cast<bool>(a.gate.opener), low, [&](auto zero, auto roles, auto gated) {
    using Low = decltype(zero);
    const auto windows = static_cast<unsigned>(a.currents[1] / a.window), groups = static_cast<unsigned>(a.currents[0]);
    const bool wide = a.d_out.dtype == DType::f32;
    const unsigned blocks = a.window > 1 ? windows : 1;  // a window's sums need two rows of `hidden`
    launch(device, "microcircuit_backward", backward_kernel<Low, roles.value, gated.value>, dim3(blocks, groups), dim3(kThreads), 0,
           CircuitBackward<Low>{arguments_of<Low>(a), Columns<const Low>(a.d_out), Columns<const float>(wide ? a.d_out : TensorView{}),
                                a.inverse_rms.as<const float>(), a.dot.as<const float>(), a.gain.as<const float>(),
                                a.hidden.as<float>(), a.hidden.row_stride, a.d_currents.as<Low>(), a.d_currents.row_stride,
                                a.d_retain.as<float>(), a.d_gain.as<float>(), Columns<float>(a.d_residual),
                                Columns<float>(a.d_gate)});
    if (blocks > 1)
      launch(device, "microcircuit_backward", totals_kernel, dim3(groups), dim3(64), 0, a.hidden.as<const float>(),
             a.hidden.row_stride, static_cast<int>(a.window), static_cast<int>(windows), a.d_retain.as<float>(), a.d_gain.as<float>());
  });
}

void gate_backward(CudaDevice& device, const GateBackward& a) {
  require_f32("gate_backward: all but the opener is f32", {a.d_gate, a.gate.bias, a.d_opener, a.d_bias});
  require_operands(a.gate.first_output == 0 && a.d_gate[1] == a.gate.opener[1] * a.gate.stripe, "gate_backward: needs the whole module");
  require_operands(a.window > 0 && a.d_gate[0] % a.window == 0, "gate_backward: the tokens are not whole windows");
  dispatch_float(a.gate.opener.dtype, [&](auto zero) {
    using Low = decltype(zero);
    launch(device, "gate_backward", gate_kernel<Low>, dim3(pieces(a.gate.opener[1], 32)), dim3(32 * kGateWarps), 0,
           Columns<const float>(a.d_gate), Columns<const Low>(a.gate.opener), a.gate.bias.as<const float>(),
           static_cast<int>(a.gate.opener[1]), static_cast<int>(a.gate.stripe), static_cast<int>(a.window),
           static_cast<int>(a.d_gate[0] / a.window), Columns<float>(a.d_opener), a.d_bias.as<float>());
  });
}

}  // namespace neurogen
