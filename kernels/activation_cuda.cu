#include "kernels/activation.h"
#include "kernels/base/cuda_math.cuh"
#include "kernels/base/cuda_rows.cuh"

namespace neurogen {
namespace {

// A hidden layer's f(u, g), and its derivatives df/du and, if gated, df/dg.
struct Value {
  float out, d_u, d_g;
};

template <Activation kind>
__device__ Value activate(float u, float g) {
  if constexpr (kind == Activation::relu2) {
    const float positive = fmaxf(u, 0.0f);
    return {positive * positive, 2 * positive, 0};
  } else if constexpr (kind == Activation::silu_gated) {
    const float s = sigmoid_of(g), silu = g * s;
    return {silu * u, silu, u * s * (1 + g * (1 - s))};
  } else {
    // (1 + tanh(x)) / 2 = sigma(2 x)
    constexpr float a = 0.797884561f, b = 0.044715f;  // sqrt(2 / pi)
    const float s = sigmoid_of(2 * a * (u + b * u * u * u));
    return {u * s, s + u * s * (1 - s) * 2 * a * (1 + 3 * b * u * u), 0};
  }
}

template <typename T>
struct Forward {
  const T *up, *gate;
  const float *up_bias, *gate_bias;
  T* out;
  std::int64_t up_stride, gate_stride, out_stride;
  int vectors;  // of a row
  std::int64_t count;
};

// This thread's vector: its row and first column.
struct Place {
  std::int64_t row;
  int column;
  __device__ Place(std::int64_t i, int vectors) : row(i / vectors), column(8 * static_cast<int>(i % vectors)) {}
};

template <typename T>
__device__ void read_sum(float (&x)[8], const T* from, const float* bias, int column) {
  read_eight(x, from + column);
  if (!bias) return;
  float b[8];
  read_eight(b, bias + column);
#pragma unroll
  for (int e = 0; e < 8; ++e) x[e] += b[e];
}

template <Activation kind, typename T>
__global__ void __launch_bounds__(kRowThreads) forward(const Forward<T> a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (i >= a.count) return;
  const Place at(i, a.vectors);
  float u[8], g[8] = {};
  read_sum(u, a.up + at.row * a.up_stride, a.up_bias, at.column);
  if constexpr (kind == Activation::silu_gated) read_sum(g, a.gate + at.row * a.gate_stride, a.gate_bias, at.column);
#pragma unroll
  for (int e = 0; e < 8; ++e) u[e] = activate<kind>(u[e], g[e]).out;
  write_eight(a.out + at.row * a.out_stride + at.column, u);
}

template <typename T>
struct Backward {
  T *up, *gate, *d_out;
  const float *up_bias, *gate_bias;
  std::int64_t up_stride, gate_stride, d_stride;
  int vectors;
  std::int64_t count;
};

template <Activation kind, typename T>
__global__ void __launch_bounds__(kRowThreads) backward(const Backward<T> a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (i >= a.count) return;
  const Place at(i, a.vectors);
  T *const up = a.up + at.row * a.up_stride, *const gate = a.gate + at.row * a.gate_stride,
           *const d_out = a.d_out + at.row * a.d_stride + at.column;
  float u[8], g[8] = {}, d[8];
  read_sum(u, up, a.up_bias, at.column);
  if constexpr (kind == Activation::silu_gated) read_sum(g, gate, a.gate_bias, at.column);
  read_eight(d, d_out);
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    const Value value = activate<kind>(u[e], g[e]);
    u[e] = value.out, g[e] = d[e] * value.d_g, d[e] *= value.d_u;
  }
  write_eight(up + at.column, u);
  if constexpr (kind == Activation::silu_gated) write_eight(gate + at.column, g);
  write_eight(d_out, d);
}

// Calls body(kind, T{}), kind an integral constant.
template <typename Body>
void dispatch(Activation kind, DType type, Body&& body) {
  dispatch_float(type, [&](auto zero) {
    if (kind == Activation::relu2) body(std::integral_constant<Activation, Activation::relu2>{}, zero);
    else if (kind == Activation::silu_gated) body(std::integral_constant<Activation, Activation::silu_gated>{}, zero);
    else body(std::integral_constant<Activation, Activation::gelu_tanh>{}, zero);
  });
}

void require_hidden(const TensorView& up, const TensorView& gate, const TensorView& other,
                    std::initializer_list<TensorView> biases) {
  require_operands(up[1] % 8 == 0 && other.dtype == up.dtype && (!gate || gate.dtype == up.dtype),
                   "activation: the hidden layer must be a multiple of 8 wide, its matrices of one type");
  for (const TensorView& bias : biases) require_operands(!bias || bias.dtype == DType::f32, "activation: biases must be f32");
}

}  // namespace

void activation_forward(CudaDevice& device, const ActivationForward& a) {
  require_hidden(a.up, a.gate, a.out, {a.up_bias, a.gate_bias});
  const std::int64_t count = a.up.elements() / 8;
  dispatch(a.activation, a.up.dtype, [&](auto kind, auto zero) {
    using T = decltype(zero);
    launch(device, "activation_forward", forward<kind.value, T>, dim3(pieces(count, kRowThreads)), dim3(kRowThreads), 0,
           Forward<T>{a.up.as<const T>(), a.gate.as<const T>(), a.up_bias.as<const float>(), a.gate_bias.as<const float>(),
                      a.out.as<T>(), a.up.row_stride, a.gate.row_stride, a.out.row_stride, static_cast<int>(a.up[1] / 8), count});
  });
}

void activation_backward(CudaDevice& device, const ActivationBackward& a) {
  require_hidden(a.up, a.gate, a.d_out, {a.up_bias, a.gate_bias, a.d_up_bias, a.d_gate_bias});
  const std::int64_t count = a.up.elements() / 8, width = a.up[1];
  dispatch(a.activation, a.up.dtype, [&](auto kind, auto zero) {
    using T = decltype(zero);
    launch(device, "activation_backward", backward<kind.value, T>, dim3(pieces(count, kRowThreads)), dim3(kRowThreads), 0,
           Backward<T>{a.up.as<T>(), a.gate.as<T>(), a.d_out.as<T>(), a.up_bias.as<const float>(), a.gate_bias.as<const float>(),
                       a.up.row_stride, a.gate.row_stride, a.d_out.row_stride, static_cast<int>(width / 8), count});
  });
  if (!a.d_up_bias && !a.d_gate_bias) return;
  if (a.d_up_bias) sum_row_parts(device, "activation_backward", a.d_out, a.sums.columns(0, width));
  if (a.d_gate_bias) sum_row_parts(device, "activation_backward", a.gate, a.sums.columns(width, width));
  add_row_parts(device, "activation_backward", a.sums, {{0, a.d_up_bias}, {width, a.d_gate_bias}});
}

}  // namespace neurogen
