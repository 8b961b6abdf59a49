#include "kernels/base/cuda_several.cuh"
#include "kernels/gradient_norm.h"

namespace neurogen {
namespace {

constexpr int kThreads = 256, kSumThreads = 1024;

struct Tensor {
  const float* x;
  std::int64_t elements;
  const std::int32_t* rows;
  std::int64_t row_elements;
};

// One block per chunk. Four squares are added in float32 before they join the float64 sum.
__global__ void chunk_squares(PieceTable<Tensor> tensors, double* partials) {
  const auto [t, chunk] = tensors.mine();
  const float* const x = t.x;
  const std::int64_t counted = t.rows ? min(t.elements, *t.rows * t.row_elements) : t.elements;
  const std::int64_t begin = chunk * kNormChunk, end = min(counted, begin + kNormChunk);
  double sum = 0;
  for (std::int64_t i = begin + 4 * threadIdx.x; i < end; i += 4 * kThreads) {
    if (i + 4 <= end) {
      const float4 v = load_four(x + i);
      sum += static_cast<double>(v.x * v.x + v.y * v.y + (v.z * v.z + v.w * v.w));
    } else {
      for (std::int64_t k = i; k < end; ++k) sum += static_cast<double>(x[k] * x[k]);
    }
  }
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(kSumThreads)
    norm_and_factor(const double* partials, std::int64_t count, double limit, const StepControl* control, float* norm) {
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += kSumThreads) sum += partials[i];
  sum = block_sum<kSumThreads>(sum);
  if (threadIdx.x != 0) return;
  const double loss_scale = control ? static_cast<double>(control->loss_scale) : 1.0, length = sqrt(sum) / loss_scale;
  norm[0] = static_cast<float>(length);
  norm[1] = static_cast<float>(fmin(1.0, limit / (length + 1e-6)) / loss_scale);
}

}  // namespace

void sum_of_squares(CudaDevice& device, const SumOfSquares& a) {
  PieceTable<Tensor> tensors;
  for (const auto& [x, rows] : a.tensors) {
    require_operands(x.dtype == DType::f32 && x.contiguous(), "sum_of_squares: x must be contiguous f32");
    tensors.add({x.as<const float>(), x.elements(), rows.as<const std::int32_t>(), x.row_elements()},
                pieces(x.elements(), kNormChunk));
  }
  require_operands(a.partials.elements() == tensors.blocks, "sum_of_squares: the number of partial sums is wrong");
  launch(device, "sum_of_squares", chunk_squares, dim3(tensors.blocks), dim3(kThreads), 0, tensors, a.partials.as<double>());
}

void clip_factor(CudaDevice& device, const ClipFactor& a) {
  require_operands(a.norm.dtype == DType::f32, "clip_factor: the norm must be f32");
  launch(device, "clip_factor", norm_and_factor, dim3(1), dim3(kSumThreads), 0, a.partials.as<const double>(),
         a.partials.elements(), a.limit, a.control.as<const StepControl>(), a.norm.as<float>());
}

}  // namespace neurogen
