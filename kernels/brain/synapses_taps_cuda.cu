// From the gradients of the weights as each tap has them to those of weights and taps.
#include "kernels/brain/synapses_cuda.cuh"

namespace neurogen {
namespace {

// A block takes one group. A thread takes four columns and every
// kTapRows-th row of the fan-in.
constexpr int kTapRows = 8;

template <int R>
__global__ void __launch_bounds__(8 * R * kTapRows)
    taps_kernel(const float* all_parts, int parts, const float* weight, const float* taps, std::int64_t taps_stride, int fan_in,
                float* d_weight, float* d_taps, std::int64_t d_taps_stride) {
  constexpr int kColumns = 32 * R, kVectors = kColumns / 4;
  __shared__ float4 shares[2][kTapRows][kVectors];
  const int vector = static_cast<int>(threadIdx.x) % kVectors, row = static_cast<int>(threadIdx.x) / kVectors, c = 4 * vector;
  const std::int64_t groups = gridDim.x, g = blockIdx.x, matrix = static_cast<std::int64_t>(fan_in) * kColumns,
                     of_tap = groups * matrix;
  const auto tap_at = [&](int tap) { return load_four(taps + (tap * R + c / 32) * taps_stride + g * 32 + c % 32); };
  const float4 now = tap_at(0), before = tap_at(1);
  float4 d_now{}, d_before{};
#pragma unroll 2
  for (int f = row; f < fan_in; f += kTapRows) {
    const std::int64_t at = g * matrix + f * kColumns + c;
    float4 p{}, q{};
#pragma unroll 2
    for (int part = 0; part < parts; ++part) {
      const float4 x = load_four(all_parts + 2 * part * of_tap + at), y = load_four(all_parts + (2 * part + 1) * of_tap + at);
      p = {p.x + x.x, p.y + x.y, p.z + x.z, p.w + x.w}, q = {q.x + y.x, q.y + y.y, q.z + y.z, q.w + y.w};
    }
    const float4 w = load_four(weight + at);
    d_now = {d_now.x + w.x * p.x, d_now.y + w.y * p.y, d_now.z + w.z * p.z, d_now.w + w.w * p.w};
    d_before = {d_before.x + w.x * q.x, d_before.y + w.y * q.y, d_before.z + w.z * q.z, d_before.w + w.w * q.w};
    store_four(d_weight + at, {now.x * p.x + before.x * q.x, now.y * p.y + before.y * q.y, now.z * p.z + before.z * q.z,
                               now.w * p.w + before.w * q.w});
  }
  shares[0][row][vector] = d_now, shares[1][row][vector] = d_before;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < 2 * kColumns; i += static_cast<int>(blockDim.x)) {
    const int tap = i / kColumns, column = i % kColumns;
    float sum = 0.0f;
    for (int r = 0; r < kTapRows; ++r) sum += reinterpret_cast<const float*>(shares[tap][r])[column];
    d_taps[(tap * R + column / 32) * d_taps_stride + g * 32 + column % 32] = sum;
  }
}

}  // namespace

void synapses_backward_taps(CudaDevice& device, const SynapsesBackwardTaps& a) {
  const std::int64_t groups = a.weight[0];
  for (const TensorView& view : {a.parts, a.weight, a.taps, a.d_weight, a.d_taps})
    require_operands(view.dtype == DType::f32, "synapses_backward_taps: all operands must be f32");
  require_operands(a.parts.contiguous() && a.weight.contiguous() && a.d_weight.contiguous() && a.parts[0] % (2 * groups) == 0,
                   "synapses_backward_taps: weights and gradients must be contiguous, and whole parts");
  dispatch_roles(static_cast<int>(a.weight[2] / kGroup), [&](auto roles) {
    launch(device, "synapses_backward_taps", taps_kernel<roles.value>, dim3(static_cast<unsigned>(groups)),
           dim3(8 * roles.value * kTapRows), 0, a.parts.as<const float>(), static_cast<int>(a.parts[0] / (2 * groups)),
           a.weight.as<const float>(), a.taps.as<const float>(), a.taps.row_stride, static_cast<int>(a.weight[1]),
           a.d_weight.as<float>(), a.d_taps.as<float>(), a.d_taps.row_stride);
  });
}

}  // namespace neurogen
