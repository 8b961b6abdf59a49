#include "kernels/adamw.h"
#include "kernels/base/cuda_several.cuh"
#include "kernels/base/eight_bits.h"
#include "kernels/base/stochastic_rounding.cuh"

namespace neurogen {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr std::int64_t kPiece = 16384;  // elements of a tensor that a block takes, whole blocks of moments

// The scalars that all elements of one update share.
struct Update {
  float clip, rate, keep, correct_m, correct_v;
};

__device__ Update update_of(float clip, float rate, double decay, double step) {
  return {clip, rate, static_cast<float>(1 - static_cast<double>(rate) * decay),
          static_cast<float>(1 / (1 - pow(kAdamBeta1, step))), static_cast<float>(1 / (1 - pow(kAdamBeta2, step)))};
}

__device__ void update_one(const Update& u, float gradient, float& p, float& m, float& v) {
  constexpr float b1 = kAdamBeta1, b2 = kAdamBeta2, rest1 = 1 - kAdamBeta1, rest2 = 1 - kAdamBeta2, epsilon = kAdamEpsilon;
  const float g = gradient * u.clip;
  m = b1 * m + rest1 * g;
  v = b2 * v + rest2 * g * g;
  p = p * u.keep - u.rate * (m * u.correct_m) / (sqrtf(v * u.correct_v) + epsilon);
}

__device__ void update_four(const Update& u, float4 g, float4& p, float4& m, float4& v) {
  update_one(u, g.x, p.x, m.x, v.x);
  update_one(u, g.y, p.y, m.y, v.y);
  update_one(u, g.z, p.z, m.z, v.z);
  update_one(u, g.w, p.w, m.w, v.w);
}

template <typename Low>
struct Tensor {
  const float* gradient;
  float* parameter;  // null: the parameter is `low`
  void *m, *v;       // f32, or u8 with scales
  float *m_scale, *v_scale;
  Low* low;  // may be null
  std::int64_t elements;
  std::uint64_t draws;
  double decay;
};

template <typename Low>
__device__ float4 load_parameter(const Tensor<Low>& t, std::int64_t i) {
  return t.parameter ? load_four(t.parameter + i) : load_four(t.low + i);
}

template <typename Low>
__device__ void store_parameter(const Tensor<Low>& t, std::int64_t i, float4 p, uint4 draws) {
  if (t.parameter) {
    store_four(t.parameter + i, p);
    if (t.low) store_four(t.low + i, p);
  } else {
    *reinterpret_cast<Neighbours<4, Low>*>(t.low +
                                           i) = {{rounded(Low{}, p.x, draws.x & 0xFFFF), rounded(Low{}, p.y, draws.y & 0xFFFF),
                                                  rounded(Low{}, p.z, draws.z & 0xFFFF), rounded(Low{}, p.w, draws.w & 0xFFFF)}};
  }
}

template <typename Low>
__device__ uint4 draws_of(const Tensor<Low>& t, std::int64_t step, std::int64_t i) {
  return philox_words(t.draws, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(i) / 4);
}

__device__ float warp_max(float x) {
  for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xFFFFFFFFu, x, step));
  return x;
}
__device__ float largest(float4 x) { return fmaxf(fmaxf(fabsf(x.x), fabsf(x.y)), fmaxf(fabsf(x.z), fabsf(x.w))); }

using Codes = Neighbours<4, std::uint8_t>;
__device__ float4 shares_of_m(Codes c) {
  return {share_of_m<float>(c.at[0]), share_of_m<float>(c.at[1]), share_of_m<float>(c.at[2]), share_of_m<float>(c.at[3])};
}
__device__ float4 shares_of_v(Codes c) {
  return {share_of_v<float>(c.at[0]), share_of_v<float>(c.at[1]), share_of_v<float>(c.at[2]), share_of_v<float>(c.at[3])};
}
__device__ Codes codes_of_m(float4 m, float by, uint4 draws) {
  return {{code_of_m(m.x * by, draws.x >> 16 & 0xFF), code_of_m(m.y * by, draws.y >> 16 & 0xFF),
           code_of_m(m.z * by, draws.z >> 16 & 0xFF), code_of_m(m.w * by, draws.w >> 16 & 0xFF)}};
}
__device__ Codes codes_of_v(float4 v, float by, uint4 draws) {
  return {{code_of_v(v.x * by, draws.x >> 24), code_of_v(v.y * by, draws.y >> 24), code_of_v(v.z * by, draws.z >> 24),
           code_of_v(v.w * by, draws.w >> 24)}};
}
__device__ float4 times(float4 x, float by) { return {x.x * by, x.y * by, x.z * by, x.w * by}; }

// A warp takes a block of 8-bit moments, each lane two runs of four elements.
template <typename Low>
__device__ void update_coded(const Update& u, const Tensor<Low>& t, std::int64_t step, std::int64_t begin, std::int64_t end) {
  constexpr int kRuns = kMomentBlock / 128;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  auto* const m_codes = static_cast<std::uint8_t*>(t.m);
  auto* const v_codes = static_cast<std::uint8_t*>(t.v);
  for (std::int64_t first = begin + warp * kMomentBlock; first < end; first += kWarps * kMomentBlock) {
    const std::int64_t block = first / kMomentBlock;
    const float m_scale = t.m_scale[block], v_scale = t.v_scale[block];
    float4 m[kRuns] = {}, v[kRuns] = {};
    uint4 draws[kRuns] = {};
    float most_m = 0, most_v = 0;
#pragma unroll
    for (int k = 0; k < kRuns; ++k) {
      const std::int64_t i = first + 128 * k + 4 * lane;
      if (i >= end) continue;
      m[k] = times(shares_of_m(*reinterpret_cast<const Codes*>(m_codes + i)), m_scale);
      v[k] = times(shares_of_v(*reinterpret_cast<const Codes*>(v_codes + i)), v_scale);
      float4 p = load_parameter(t, i);
      update_four(u, load_four(t.gradient + i), p, m[k], v[k]);
      draws[k] = draws_of(t, step, i);
      store_parameter(t, i, p, draws[k]);
      most_m = fmaxf(most_m, largest(m[k]));
      most_v = fmaxf(most_v, largest(v[k]));
    }
    most_m = warp_max(most_m), most_v = warp_max(most_v);
    const float by_m = by_scale(most_m), by_v = by_scale(most_v);
#pragma unroll
    for (int k = 0; k < kRuns; ++k) {
      const std::int64_t i = first + 128 * k + 4 * lane;
      if (i >= end) continue;
      *reinterpret_cast<Codes*>(m_codes + i) = codes_of_m(m[k], by_m, draws[k]);
      *reinterpret_cast<Codes*>(v_codes + i) = codes_of_v(v[k], by_v, draws[k]);
    }
    if (lane == 0) t.m_scale[block] = most_m, t.v_scale[block] = most_v;
  }
}

template <typename Low>
__device__ void update_whole(const Update& u, const Tensor<Low>& t, std::int64_t step, std::int64_t begin, std::int64_t end) {
  auto* const first = static_cast<float*>(t.m);
  auto* const second = static_cast<float*>(t.v);
  for (std::int64_t i = begin + 4 * threadIdx.x; i < end; i += 4 * kThreads) {
    float4 p = load_parameter(t, i), m = load_four(first + i), v = load_four(second + i);
    update_four(u, load_four(t.gradient + i), p, m, v);
    store_parameter(t, i, p, t.parameter ? uint4{} : draws_of(t, step, i));
    store_four(first + i, m);
    store_four(second + i, v);
  }
}

template <typename Low>
__global__ void update_all(const StepControl* control, const float* norm, PieceTable<Tensor<Low>> tensors) {
  if (control->overflow != 0) return;
  const auto [t, piece] = tensors.mine();
  __shared__ Update u;
  if (threadIdx.x == 0)
    u = update_of(norm[1], control->learning_rate, t.decay, static_cast<double>(control->step + 1 - control->trunk_skips));
  __syncthreads();
  const std::int64_t begin = piece * kPiece, end = min(t.elements, begin + kPiece);
  if (t.m_scale) update_coded(u, t, control->step, begin, end);
  else update_whole(u, t, control->step, begin, end);
}

bool narrow(const TensorView& parameter) { return parameter.dtype != DType::f32; }

}  // namespace

void adamw(CudaDevice& device, const AdamW& a) {
  DType low = DType::f32;
  for (const AdamW::Update& u : a.updates) {
    if (u.low || narrow(u.parameter)) low = u.low ? u.low.dtype : u.parameter.dtype;
  }
  dispatch_float(low, [&](auto zero) {
    using Low = decltype(zero);
    PieceTable<Tensor<Low>> tensors;
    for (const AdamW::Update& u : a.updates) {
      const std::int64_t elements = u.parameter.elements();
      const bool coded = u.m.dtype == DType::u8;
      require_operands(
          (u.parameter.dtype == DType::f32 || u.parameter.dtype == low) && u.gradient.dtype == DType::f32 && elements % 4 == 0,
          "adamw: tensors must be f32, parameters also of one 16-bit type, with a multiple of 4 elements");
      require_operands(!coded || (u.m_scale.dtype == DType::f32 && u.m_scale.elements() == moment_blocks(elements) &&
                                  u.v_scale.elements() == u.m_scale.elements()),
                       "adamw: moments of 8 bits need a scale for each block");
      const TensorView& copy = narrow(u.parameter) ? u.parameter : u.low;
      tensors.add({u.gradient.as<const float>(), narrow(u.parameter) ? nullptr : u.parameter.as<float>(), u.m.data, u.v.data,
                   u.m_scale.as<float>(), u.v_scale.as<float>(), copy.as<Low>(), elements, u.draws, u.decay},
                  pieces(elements, kPiece));
    }
    launch(device, "adamw", update_all<Low>, dim3(tensors.blocks), dim3(kThreads), 0, a.control.as<const StepControl>(),
           a.norm.as<const float>(), tensors);
  });
}

}  // namespace neurogen
