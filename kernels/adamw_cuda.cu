#include "kernels/adamw.h"
#include "kernels/base/cuda_several.cuh"

namespace neurogen {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kPiece = 16384;  // elements of a tensor that a block takes

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

__device__ float4 update_four(const Update& u, const float* gradient, float* parameter, float* m, float* v) {
  const float4 g = load_four(gradient);
  float4 p = load_four(parameter), first = load_four(m), second = load_four(v);
  update_one(u, g.x, p.x, first.x, second.x);
  update_one(u, g.y, p.y, first.y, second.y);
  update_one(u, g.z, p.z, first.z, second.z);
  update_one(u, g.w, p.w, first.w, second.w);
  store_four(parameter, p);
  store_four(m, first);
  store_four(v, second);
  return p;
}

template <typename Low>
struct Tensor {
  const float* gradient;
  float *parameter, *m, *v;
  Low* low;  // may be null
  std::int64_t elements;
  double decay;
};

template <typename Low>
__global__ void update_all(const StepControl* control, const float* norm, PieceTable<Tensor<Low>> tensors) {
  if (control->overflow != 0) return;
  const auto [t, piece] = tensors.mine();
  __shared__ Update u;
  if (threadIdx.x == 0)
    u = update_of(norm[1], control->learning_rate, t.decay, static_cast<double>(control->step + 1 - control->trunk_skips));
  __syncthreads();
  const std::int64_t end = min(t.elements, (piece + 1) * kPiece);
  for (std::int64_t i = piece * kPiece + 4 * threadIdx.x; i < end; i += 4 * kThreads) {
    const float4 p = update_four(u, t.gradient + i, t.parameter + i, t.m + i, t.v + i);
    if (t.low) store_four(t.low + i, p);
  }
}

}  // namespace

void adamw(CudaDevice& device, const AdamW& a) {
  DType low = DType::f32;
  for (const AdamW::Update& u : a.updates) {
    if (u.low) low = u.low.dtype;
  }
  dispatch_float(low, [&](auto zero) {
    using Low = decltype(zero);
    PieceTable<Tensor<Low>> tensors;
    for (const AdamW::Update& u : a.updates) {
      const std::int64_t elements = u.parameter.elements();
      require_operands(u.parameter.dtype == DType::f32 && elements % 4 == 0,
                       "adamw: tensors must be f32, with a multiple of 4 elements");
      tensors.add({u.gradient.as<const float>(), u.parameter.as<float>(), u.m.as<float>(), u.v.as<float>(), u.low.as<Low>(),
                   elements, u.decay},
                  pieces(elements, kPiece));
    }
    launch(device, "adamw", update_all<Low>, dim3(tensors.blocks), dim3(kThreads), 0, a.control.as<const StepControl>(),
           a.norm.as<const float>(), tensors);
  });
}

}  // namespace neurogen
