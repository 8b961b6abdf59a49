// One token of each stream. A block takes a part of the tokens in a head's ring; a second kernel adds up the parts.
#include "kernels/causal_attention_cuda.cuh"

namespace neurogen {
namespace {

constexpr int kWarps = 4;
constexpr int kParts = static_cast<int>(kStepParts);

template <typename T>
struct Step {
  const T *q, *k, *v;
  std::int64_t q_stride, k_stride, v_stride;
  T *keys, *values;  // [B, ring, K d]
  std::int64_t keys_stride, values_stride, slot_stride, ring;
  const std::int64_t *position, *first;
  float* parts;  // [B, H, kStepParts, d + 2]: the mixture, the largest score, the sum of exponentials
  T* out;
  std::int64_t out_stride;
  int width, shared;
  float exponent;
};

// Weighs the values of softmax parts: the larger of two maxima, and both sums brought to it.
struct Mixture {
  float maximum = -INFINITY, sum = 0;
  // Returns the factor of what was gathered before.
  __device__ float raise(float to) {
    const float larger = fmaxf(maximum, to), shrink = larger == -INFINITY ? 1.0f : exp2_of(maximum - larger);
    maximum = larger;
    sum *= shrink;
    return shrink;
  }
};

// A lane has columns lane, lane + 32, ... of the head; D: the width rounded up.
template <typename T, int D>
__global__ void __launch_bounds__(32 * kWarps) part_kernel(const Step<T> a) {
  constexpr int kColumns = D / 32;
  const int part = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y), stream = static_cast<int>(blockIdx.z);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32, key_head = head / a.shared;
  const std::int64_t position = *a.position, oldest = max(max(*a.first, position - a.ring + 1), std::int64_t{0});
  const std::int64_t tokens = position + 1 - oldest, begin = oldest + tokens * part / kParts,
                     end = oldest + tokens * (part + 1) / kParts;
  const auto row = [&](auto* x, std::int64_t stride, int of) { return x + stream * stride + of * a.width; };
  const auto each = [&](auto&& body) {
#pragma unroll
    for (int c = 0; c < kColumns; ++c)
      if (32 * c + lane < a.width) body(c, 32 * c + lane);
  };
  float q[kColumns] = {}, mixed[kColumns] = {};
  each([&](int c, int column) { q[c] = to_float(row(a.q, a.q_stride, head)[column]) * a.exponent; });
  const T *const k = row(a.k, a.k_stride, key_head), *const v = row(a.v, a.v_stride, key_head);
  const auto slot = [&](T* ring, std::int64_t stride, std::int64_t p) {
    return ring + stream * stride + p % a.ring * a.slot_stride + key_head * a.width;
  };
  Mixture mixture;
  for (std::int64_t p = begin + warp; p < end; p += kWarps) {
    const bool now = p == position;  // only one of the heads that share it writes this token's key and value
    T *const key = slot(a.keys, a.keys_stride, p), *const value = slot(a.values, a.values_stride, p);
    float score = 0, own[kColumns] = {};
    each([&](int c, int column) {
      const T of_key = now ? k[column] : key[column], of_value = now ? v[column] : value[column];
      if (now && head % a.shared == 0) key[column] = of_key, value[column] = of_value;
      score += q[c] * to_float(of_key);
      own[c] = to_float(of_value);
    });
    score = warp_sum(score);
    const float shrink = mixture.raise(score), weight = exp2_of(score - mixture.maximum);
    mixture.sum += weight;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) mixed[c] = mixed[c] * shrink + weight * own[c];
  }
  __shared__ float gathered[kWarps][D], maxima[kWarps], sums[kWarps];
  each([&](int c, int column) { gathered[warp][column] = mixed[c]; });
  maxima[warp] = mixture.maximum, sums[warp] = mixture.sum;
  __syncthreads();
  if (warp > 0) return;
  float* const to = a.parts + ((stream * static_cast<std::int64_t>(gridDim.y) + head) * kParts + part) * (a.width + 2);
  for (int w = 1; w < kWarps; ++w) {
    const float shrink = mixture.raise(maxima[w]), weight = maxima[w] == -INFINITY ? 0.0f : exp2_of(maxima[w] - mixture.maximum);
    mixture.sum += weight * sums[w];
    each([&](int c, int column) { mixed[c] = mixed[c] * shrink + weight * gathered[w][column]; });
  }
  each([&](int c, int column) { to[column] = mixed[c]; });
  if (lane == 0) to[a.width] = mixture.maximum, to[a.width + 1] = mixture.sum;
}

template <typename T>
__global__ void sum_kernel(const Step<T> a) {
  const int head = static_cast<int>(blockIdx.x), stream = static_cast<int>(blockIdx.y), column = static_cast<int>(threadIdx.x);
  const float* const parts = a.parts + (stream * static_cast<std::int64_t>(gridDim.x) + head) * kParts * (a.width + 2);
  Mixture mixture;
  float mixed = 0;
  for (int part = 0; part < kParts; ++part) {
    const float *const of = parts + part * (a.width + 2), maximum = of[a.width];
    const float shrink = mixture.raise(maximum), weight = maximum == -INFINITY ? 0.0f : exp2_of(maximum - mixture.maximum);
    mixture.sum += weight * of[a.width + 1];
    mixed = mixed * shrink + weight * of[column];
  }
  a.out[stream * a.out_stride + head * a.width + column] = from_float<T>(mixed / mixture.sum);
}

}  // namespace

void causal_attention_step(CudaDevice& device, const CausalAttentionStep& a) {
  const std::int64_t width = a.q[1] / a.heads.queries, streams = a.q[0];
  for (const TensorView& view : {a.k, a.v, a.keys, a.values, a.out})
    require_operands(view.dtype == a.q.dtype, "causal attention: q, k, v, the rings and out must have one type");
  require_operands(a.parts.dtype == DType::f32 && a.parts.elements() == streams * a.heads.queries * kStepParts * (width + 2),
                   "causal attention: the scratch for parts has the wrong size");
  dispatch_heads(a.q.dtype, width, [&](auto zero, auto padded) {
    using T = decltype(zero);
    const Step<T> step{a.q.as<const T>(),
                       a.k.as<const T>(),
                       a.v.as<const T>(),
                       a.q.row_stride,
                       a.k.row_stride,
                       a.v.row_stride,
                       a.keys.as<T>(),
                       a.values.as<T>(),
                       a.keys.row_stride,
                       a.values.row_stride,
                       a.keys[2],
                       a.keys[1],
                       a.position.as<const std::int64_t>(),
                       a.first.as<const std::int64_t>(),
                       a.parts.as<float>(),
                       a.out.as<T>(),
                       a.out.row_stride,
                       static_cast<int>(width),
                       static_cast<int>(a.heads.queries / a.heads.keys),
                       kLog2E / std::sqrt(static_cast<float>(width))};
    launch(device, "causal_attention_step", part_kernel<T, padded.value>,
           dim3(kParts, static_cast<unsigned>(a.heads.queries), static_cast<unsigned>(streams)), dim3(32 * kWarps), 0, step);
    launch(device, "causal_attention_step", sum_kernel<T>,
           dim3(static_cast<unsigned>(a.heads.queries), static_cast<unsigned>(streams)), dim3(static_cast<unsigned>(width)), 0,
           step);
  });
}

}  // namespace neurogen
