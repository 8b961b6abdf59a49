// The hippocampus over a ring of keys and values: a block takes one stream and head, its warps take the positions in turn, each
// with its own running softmax (arXiv:1805.02867).
#include "kernels/brain/attention_cuda.cuh"

namespace neurogen {
namespace {

constexpr int kWarps = 8;
constexpr int kAhead = 4;  // positions that a warp reads at once

template <typename Out>
struct Step {
  const float* currents;  // [G, B, 32R]
  std::int64_t group_stride;
  int columns;
  float *keys, *values;  // [B, ring, 32G]
  std::int64_t keys_stride, values_stride, slot_stride;
  std::int64_t ring;
  const std::int64_t *position, *first;
  Out* pre_norm;  // [B, 32G]
  std::int64_t pre_norm_stride;
};

// Lane i of a warp takes pair i: normalised, then rotated.
__device__ float2 turned(float2 x, float2 turn) {
  const float inverse = inverse_rms_of(warp_sum(x.x * x.x + x.y * x.y));
  return {inverse * (x.x * turn.x - x.y * turn.y), inverse * (x.x * turn.y + x.y * turn.x)};
}
__device__ float2 value_of(const HeadCurrents<const float>& currents, int t, int d) {
  float2 v = currents.pair(t, kValue, d);
  if (currents.has_strength()) {
    const float2 s = currents.pair(t, kStrength, d);
    v.x *= 2.0f * sigmoid_of(s.x);
    v.y *= 2.0f * sigmoid_of(s.y);
  }
  return v;
}

template <typename Out>
__global__ void __launch_bounds__(32 * kWarps) step_kernel(const Step<Out> a) {
  __shared__ Turns turns;
  __shared__ float maxima[kWarps], sums[kWarps];
  __shared__ float2 shares[kWarps][kDims / 2];
  const int stream = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32, d = head * kDims + 2 * lane;
  const HeadCurrents<const float> currents(a.currents, a.group_stride, a.columns, head, 0);
  const std::int64_t position = *a.position;
  const auto slot = [&](float* ring, std::int64_t stride, std::int64_t p) -> float2& {
    return *reinterpret_cast<float2*>(ring + stream * stride + p % a.ring * a.slot_stride + d);
  };
  make_turns(turns);
  __syncthreads();
  const float2 turn = cos_sin(turns[lane], position);
  if (warp == 0) {
    slot(a.keys, a.keys_stride, position) = turned(currents.pair(stream, kKey, 2 * lane), turn);
    slot(a.values, a.values_stride, position) = value_of(currents, stream, 2 * lane);
  }
  const float2 q = turned(currents.pair(stream, kQuery, 2 * lane), turn);
  __syncthreads();

  const std::int64_t oldest = max(max(*a.first, position - a.ring + 1), std::int64_t{0});
  float maximum = -INFINITY, sum = 0.0f;
  float2 mixed{};
  for (std::int64_t p = oldest + warp; p <= position; p += kWarps * kAhead) {
    float2 key[kAhead], value[kAhead];
    float score[kAhead], largest = maximum;
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const std::int64_t at = min(p + i * kWarps, position);
      key[i] = slot(a.keys, a.keys_stride, at);
      value[i] = slot(a.values, a.values_stride, at);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      score[i] = warp_sum(q.x * key[i].x + q.y * key[i].y) * kExponent;
      if (p + i * kWarps > position) score[i] = -INFINITY;
      largest = fmaxf(largest, score[i]);
    }
    const float shrink = exp2_of(maximum - largest);
    maximum = largest;
    sum *= shrink;
    mixed = {mixed.x * shrink, mixed.y * shrink};
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const float weight = exp2_of(score[i] - maximum);
      sum += weight;
      mixed.x += weight * value[i].x;
      mixed.y += weight * value[i].y;
    }
  }
  maxima[warp] = maximum;
  sums[warp] = sum;
  shares[warp][lane] = mixed;
  __syncthreads();
  if (warp > 0) return;
  for (int w = 1; w < kWarps; ++w) maximum = fmaxf(maximum, maxima[w]);
  sum = 0.0f;
  mixed = {};
  for (int w = 0; w < kWarps; ++w) {
    const float weight = exp2_of(maxima[w] - maximum);
    sum += weight * sums[w];
    mixed.x += weight * shares[w][lane].x;
    mixed.y += weight * shares[w][lane].y;
  }
  const float2 open = currents.pair(stream, kOpen, 2 * lane);
  store_pair(a.pre_norm + stream * a.pre_norm_stride + d, mixed.x / sum * sigmoid_of(open.x), mixed.y / sum * sigmoid_of(open.y));
}

}  // namespace

void attention_step(CudaDevice& device, const AttentionStep& a) {
  require_heads(a.currents, 1);
  require_operands(a.currents.dtype == DType::f32, "attention_step: currents must be f32");
  for (const TensorView& view : {a.keys, a.values})
    require_operands(view.dtype == DType::f32, "attention_step: keys and values must be f32");
  dispatch_float(a.pre_norm.dtype, [&](auto zero) {
    using Out = decltype(zero);
    launch(device, "attention_step", step_kernel<Out>,
           dim3(static_cast<unsigned>(a.currents[1]), static_cast<unsigned>(a.currents[0] / 2)), dim3(32 * kWarps), 0,
           Step<Out>{a.currents.as<const float>(), a.currents.row_stride, static_cast<int>(a.currents[2]), a.keys.as<float>(),
                     a.values.as<float>(), a.keys.row_stride, a.values.row_stride, a.keys[2], a.keys[1],
                     a.position.as<const std::int64_t>(), a.first.as<const std::int64_t>(), a.pre_norm.as<Out>(),
                     a.pre_norm.row_stride});
  });
}

}  // namespace neurogen
