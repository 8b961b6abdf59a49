// A module's column groups for a single token, and the norm that follows. A block takes one group; the last one normalises the row.
#include "kernels/brain/cortical_columns.h"
#include "kernels/brain/microcircuit_cuda.cuh"
#include "kernels/brain/synapses_row_cuda.cuh"
#include "kernels/rms_norm.h"

namespace neurogen {
namespace {

template <typename T>
struct StepArguments {
  RowArguments row;
  const float* retain;
  const T* opener;
  const float* gate_bias;
  int stripe;
  const T* residual;  // may be null
  float* state;
  GradientOf<T>* pre_norm;
  unsigned* done;
  const float* gain;
  T* out;
  float* inverse_rms;
  int outputs;
};

template <typename T, int R, bool gated>
__global__ void __launch_bounds__(kRowThreads, 2) step_kernel(const StepArguments<T> a) {
  __shared__ float currents[32 * R];
  __shared__ bool last;
  const int lane = static_cast<int>(threadIdx.x), column = static_cast<int>(blockIdx.x) * kLanes + lane;
  // Loaded before the currents are ready; the gain, which the last block needs, is prefetched.
  float retain = 0.0f, opener = 0.0f, residual = 0.0f, state = 0.0f;
  if (lane < kLanes) {
    retain = read(a.retain + column), state = a.state[column];
    if (gated) opener = read(a.opener + column / a.stripe) + read(a.gate_bias + column / a.stripe);
    if (a.residual) residual = read(a.residual + column);
    asm volatile("prefetch.global.L2 [%0];" ::"l"(a.gain + column));
  }
  row_currents<T, R>(a.row, blockIdx.x, currents);
  if (lane < kLanes) {
    float u[R];
#pragma unroll
    for (int r = 0; r < R; ++r) u[r] = currents[r * kLanes + lane];
    Factors factors;
    factors.template compute<gated>(u[1], retain, opener);
    state = factors.forget * state + factors.input() * u[0];
    a.state[column] = state;
    a.pre_norm[column] = from_float<GradientOf<T>>(output_of<R>(state, u, residual));
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicAdd(a.done, 1u) == gridDim.x - 1;  // an integer: the order does not matter
    if (last) *a.done = 0;
    __threadfence();
  }
  __syncthreads();
  if (last)
    rms_normalise_row<kRowThreads>(RowAt<GradientOf<T>>{a.pre_norm}, a.gain, a.out, a.inverse_rms, a.outputs,
                                   static_cast<float>(kRmsEpsilon));
}

}  // namespace

void cortical_columns_step(CudaDevice& device, const CorticalColumnsStep& a) {
  const DType type = a.weight.dtype;
  const std::int64_t groups = a.weight[0], outputs = kGroup * groups;
  const SynapsesShape x(a.weight, make_view(nullptr, DType::f32, {groups, 1, a.weight[2]}), a.wiring[1], 1);
  require_sources(a.sources, type);
  require_f32("cortical_columns_step: taps, bias, retain, the gate's bias, gain, state and sums must be f32",
              {a.taps, a.bias, a.retain, a.gate.bias, a.gain, a.state, a.before});
  for (const TensorView& view : {a.gate.opener, a.residual, a.out})
    require_operands(!view || view.dtype == type, "cortical_columns_step: opener, residual and output must have the weights' type");
  require_operands(a.pre_norm.dtype == gradient_of(type) && a.done.dtype == DType::i32,
                   "cortical_columns_step: the scratch has the wrong type");
  require_operands(a.pre_norm[1] == outputs && a.out[1] == outputs && a.state[1] == outputs && a.taps[0] == 2 * x.roles &&
                       a.before[0] == groups && a.sources.outputs[0][0] == 1,
                   "cortical_columns_step: operands must be one token of the whole module");
  dispatch_float(type, [&](auto zero) {
    using T = decltype(zero);
    const StepArguments<T> arguments{RowArguments({a.sources, a.wiring, a.weight, a.taps, a.bias}, x, a.before),
                                     a.retain.as<const float>(),
                                     a.gate.opener.as<const T>(),
                                     a.gate.bias.as<const float>(),
                                     static_cast<int>(a.gate.stripe),
                                     a.residual.as<const T>(),
                                     a.state.as<float>(),
                                     a.pre_norm.as<GradientOf<T>>(),
                                     a.done.as<unsigned>(),
                                     a.gain.as<const float>(),
                                     a.out.as<T>(),
                                     a.inverse_rms.as<float>(),
                                     static_cast<int>(outputs)};
    dispatch_roles(x.roles, [&](auto roles) {
      const auto kernel = a.gate.opener ? step_kernel<T, roles.value, true> : step_kernel<T, roles.value, false>;
      launch(device, "cortical_columns_step", kernel, dim3(static_cast<unsigned>(groups)), dim3(kRowThreads), 0, arguments);
    });
  });
}

}  // namespace neurogen
