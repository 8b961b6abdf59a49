// Shared by the microcircuit's CUDA kernels.
//
// The recurrence h_t = f_t h_{t-1} + i_t c_t is a scan: a step is the map h -> a h + b, and maps compose. A block takes one window
// of one column group, a warp's lanes its 32 outputs. Eight warps take a run of tokens each, compose their maps, exchange the
// results through shared memory and then know the state before their first token: a round of eight runs reads all its currents at
// once instead of one after another. The backward pass is the same scan from the end.
//
// In a window's last round, tokens beyond its end read the last token and are left out of everything: without branches around the
// reads, all reads of a run overlap.
#pragma once
#include "kernels/base/cuda_kernel.cuh"
#include "kernels/base/cuda_math.cuh"
#include "kernels/brain/microcircuit.h"
#include "kernels/brain/synapses.h"

namespace neurogen {

inline constexpr int kWarps = 8, kThreads = 32 * kWarps;
inline constexpr int kLanes = static_cast<int>(kGroup);

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

// Reads memory that no kernel here writes: such reads may pass earlier writes.
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

// Exchanges all warps' maps of a round; returns the state before this warp's first token (in reverse: after its last) and moves
// `state` past the round. Two buffers alternate, so that one barrier is enough. Warps without a map only take part in the barrier.
template <bool reverse, int warps>
__device__ inline float exchange(Map (&maps)[2][warps][kLanes], int& turn, Map mine, float& state) {
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  if (warp < warps) maps[turn][warp][lane] = mine;
  __syncthreads();
  float entering = 0.0f;
  if (warp >= warps) return entering;
#pragma unroll 4
  for (int i = 0; i < warps; ++i) {
    const int w = reverse ? warps - 1 - i : i;
    if (w == warp) entering = state;
    const Map map = maps[turn][w][lane];
    state = map.scale * state + map.shift;
  }
  turn ^= 1;
  return entering;
}

// Forget and input factors of a token; the defaults keep the state. `raw` is i before the gate, without the loss of digits in 1 - f
// when tau is long.
struct Factors {
  float forget = 1.0f, raw = 0.0f, open = 1.0f;

  template <bool gated>
  __device__ void compute(float u1, float retain, float opener) {
    const float e = exp2_of(fminf(-kLog2E * u1 - kLog2E * retain, 115.0f)), shut = reciprocal(1.0f + e);
    raw = e * shut;
    open = gated ? sigmoid_of(opener) : 1.0f;
    forget = gated ? 1.0f - raw * open : shut;
  }
  __device__ float input() const { return raw * open; }
};

// A thread's view of its output and window.
template <typename Low, int R, bool gated>
struct Lane {
  const CircuitArguments<Low>& a;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int column;          // in the range
  const std::int64_t token;  // the window's first token
  const float* currents;     // at that token
  const float retain;
  const int behind;  // the opener of this output
  const float gate_bias;

  __device__ Lane(const CircuitArguments<Low>& arguments, int g, int window)
      : a(arguments),
        column(g * kLanes + lane),
        token(static_cast<std::int64_t>(window) * a.window),
        currents(a.currents + g * a.group_stride + token * (R * kLanes) + lane),
        retain(read(a.retain + column)),
        behind(gated ? (a.first_output + column) / a.stripe : 0),
        gate_bias(gated ? read(a.gate_bias + behind) : 0.0f) {}

  __device__ float current(int t, int role) const { return read(currents + (t * R + role) * kLanes); }
  __device__ float opener(int t) const {
    if constexpr (gated) return read(a.opener.at(token + t, behind)) + gate_bias;
    else return 0.0f;
  }
  // The tokens that start a document, among the 32 from `begin` on, as bits.
  __device__ unsigned starts(int begin) const {
    const int t = min(begin + lane, a.window - 1);
    return __ballot_sync(0xFFFFFFFFu, __ldg(a.first + token + t) == t);
  }
  __device__ float residual(int t) const { return a.residual.data ? read(a.residual.at(token + t, column)) : 0.0f; }
};

// An output, including the residual.
template <int R>
__device__ inline float output_of(float h, const float (&u)[R], float residual = 0.0f) {
  if constexpr (R == 2) return h + residual;
  else {
    float y = residual;
    if constexpr (R == 4) y += u[3];
    if constexpr (R == 5) y += u[3] * sigmoid_of(u[3]) * u[4];
    return y + h * (u[2] * sigmoid_of(u[2]));
  }
}

// Through the roles that shape an output: returns the gradient of h from d, the gradient of y; gradients of roles 2 and up go to
// store(role, gradient).
template <int R, typename Store>
__device__ inline float through_roles(float d, float h, const float (&u)[R], Store&& store) {
  if constexpr (R == 4) store(3, d);
  if constexpr (R == 5) {
    const float s = sigmoid_of(u[3]), y = u[3] * s;  // d y / d u = s + y (1 - s)
    store(3, d * u[4] * (y * (1.0f - s) + s));
    store(4, d * y);
  }
  if constexpr (R > 2) {
    const float s = sigmoid_of(u[2]), y = u[2] * s;
    store(2, d * h * (y * (1.0f - s) + s));
    d *= y;
  }
  return d;
}

inline void require_f32(const char* sentence, std::initializer_list<TensorView> views) {
  for (const TensorView& view : views) require_operands(!view || view.dtype == DType::f32, sentence);
}

// Type of the operands that are stored in the compute type.
inline DType low_type(DType otherwise, std::initializer_list<TensorView> views) {
  DType type = otherwise;
  for (const TensorView& view : views)
    if (view) type = view.dtype;
  for (const TensorView& view : views)
    require_operands(!view || view.dtype == type, "microcircuit: residual and opener differ in type");
  return type;
}

template <typename Low, typename Operation>
CircuitArguments<Low> arguments_of(const Operation& a) {
  require_f32("microcircuit: currents, retain and the gate's bias must be f32", {a.currents, a.retain, a.gate.bias});
  return {a.currents.template as<const float>(),
          a.currents.row_stride,
          a.retain.template as<const float>(),
          a.first.template as<const int>(),
          static_cast<int>(a.window),
          static_cast<int>(a.currents[1] / a.window),
          Columns<const Low>(a.gate.opener),
          a.gate.bias.template as<const float>(),
          static_cast<int>(a.gate.stripe),
          static_cast<int>(a.gate.first_output),
          Columns<const Low>(a.residual)};
}

// Calls body(Low{}, roles, gated); roles and gated are integral constants.
template <typename Body>
void dispatch_circuit(const TensorView& currents, std::int64_t window, bool gated, DType low, Body&& body) {
  const std::int64_t roles = currents[2] / kGroup;
  require_operands(roles >= 2 && roles <= 5 && currents[2] % kGroup == 0, "microcircuit: an output must have 2 to 5 neurons");
  require_operands(window > 0 && currents[1] % window == 0, "microcircuit: the tokens must be whole windows");
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

}  // namespace neurogen
