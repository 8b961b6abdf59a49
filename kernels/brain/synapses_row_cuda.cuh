// Currents of a single token: a block takes one column group and reads its weights into registers once. The tiled product would
// first stage them in shared memory, for 127 tokens that do not exist.
#pragma once
#include "kernels/brain/synapses_cuda.cuh"

namespace neurogen {

inline constexpr int kRowThreads = 256;

struct RowArguments : ForwardOperands {
  int fan_in, width_bits;
  float* before;  // [G, 32R], may be null
  std::int64_t before_stride;

  RowArguments(const ForwardOperands& operands, const SynapsesShape& x, const TensorView& before_)
      : ForwardOperands(operands),
        fan_in(x.fan_in),
        width_bits(x.width == 32 ? 5 : 4),
        before(before_.as<float>()),
        before_stride(before_.row_stride) {}
};

// A thread takes a vector of columns and every kRows-th source, summed in that order, then over the threads. The block has all
// currents when it returns.
template <typename T, int R>
__device__ inline void row_currents(const RowArguments& a, std::int64_t g, float (&currents)[32 * R]) {
  constexpr int kColumns = 32 * R, kVectors = kColumns / kVector<T>, kRows = kRowThreads / kVectors;
  __shared__ float shares[kRows][kColumns];
  const int thread = static_cast<int>(threadIdx.x), row = thread / kVectors, column = thread % kVectors * kVector<T>;
  const int* const wiring = a.wiring + g * a.wiring_stride;
  const T* const weight = static_cast<const T*>(a.weight) + g * a.weight_stride + column;
  if (row < kRows) {
    float sum[kVector<T>] = {};
#pragma unroll 8
    for (int f = row; f < a.fan_in; f += kRows) {
      const uint4 vector = __ldg(reinterpret_cast<const uint4*>(weight + f * kColumns));
      const int source = (__ldg(wiring + (f >> a.width_bits)) << a.width_bits) + (f & ((1 << a.width_bits) - 1));
      const float x = to_float(__ldg(find_block<const T>(a.sources, source).data));
#pragma unroll
      for (int i = 0; i < kVector<T>; ++i) sum[i] += x * to_float(reinterpret_cast<const T*>(&vector)[i]);
    }
#pragma unroll
    for (int i = 0; i < kVector<T>; ++i) shares[row][column + i] = sum[i];
  }
  __syncthreads();
  if (thread < kColumns) {
    const std::int64_t role = thread / 32, at = g * 32 + thread % 32;
    float current = __ldg(a.bias + role * a.bias_stride + at), sum = 0.0f;
#pragma unroll
    for (int r = 0; r < kRows; ++r) sum += shares[r][thread];
    if (a.before) {
      float& before = a.before[g * a.before_stride + thread];
      current += __ldg(a.taps + (R + role) * a.taps_stride + at) * before;
      before = sum;
    }
    currents[thread] = __ldg(a.taps + role * a.taps_stride + at) * sum + current;
  }
  __syncthreads();
}

}  // namespace neurogen
