#include "kernels/base/cuda_kernel.cuh"
#include "kernels/rowwise_rmsprop.h"

namespace neurogen {
namespace {

constexpr int kThreads = 128;

__global__ void forget(const StepControl* control, float* v, std::int64_t rows) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row < rows && control->overflow == 0) v[row] *= static_cast<float>(kRowwiseBeta);
}

// One block per touched row; blocks beyond `count` return at once. Without `rows` and `count`, one per row of the table.
__global__ void __launch_bounds__(kThreads)
    update_rows(const StepControl* control, const float* norm, const std::int32_t* rows, const std::int32_t* count,
                const float* d_rows, std::int64_t d_stride, float* table, std::int64_t stride, float* v, std::int64_t width) {
  const std::int64_t i = blockIdx.x;
  if ((rows && i >= *count) || control->overflow != 0) return;
  const std::int64_t row = rows ? rows[i] : i;
  const float* gradient = d_rows + i * d_stride;
  float* p = table + row * stride;
  const float clip = norm[1], before = v[row];
  float squares = 0;
  for (std::int64_t e = 4 * threadIdx.x; e < width; e += 4 * kThreads) {
    const float4 g = load_four(gradient + e);
    squares += (g.x * clip * (g.x * clip) + g.y * clip * (g.y * clip)) + (g.z * clip * (g.z * clip) + g.w * clip * (g.w * clip));
  }
  squares = block_sum<kThreads>(squares);
  const float moment = before + static_cast<float>(1 - kRowwiseBeta) * (squares / static_cast<float>(width));
  const float rate = static_cast<float>(static_cast<double>(control->table_learning_rate) * sqrt(1 - kRowwiseBeta)),
              factor = rate / sqrtf(moment + static_cast<float>(kRowwiseEpsilon));
  if (threadIdx.x == 0) v[row] = moment;
  for (std::int64_t e = 4 * threadIdx.x; e < width; e += 4 * kThreads) {
    const float4 g = load_four(gradient + e);
    float4 x = load_four(p + e);
    x.x -= factor * (g.x * clip), x.y -= factor * (g.y * clip), x.z -= factor * (g.z * clip), x.w -= factor * (g.w * clip);
    store_four(p + e, x);
  }
}

}  // namespace

void rowwise_rmsprop(CudaDevice& device, const RowwiseRmsprop& a) {
  require_operands(a.table.dtype == DType::f32 && a.v.dtype == DType::f32 && a.table[1] % 4 == 0,
                   "rowwise_rmsprop: rows must be f32 and a multiple of 4 wide");
  const auto* control = a.control.as<const StepControl>();
  launch(device, "rowwise_rmsprop", forget, dim3(pieces(a.v.elements(), kThreads)), dim3(kThreads), 0, control, a.v.as<float>(),
         a.v.elements());
  launch(device, "rowwise_rmsprop", update_rows, dim3(pieces(a.d_rows[0], 1)), dim3(kThreads), 0, control, a.norm.as<const float>(),
         a.rows.as<const std::int32_t>(), a.count.as<const std::int32_t>(), a.d_rows.as<const float>(), a.d_rows.row_stride,
         a.table.as<float>(), a.table.row_stride, a.v.as<float>(), a.table[1]);
}

}  // namespace neurogen
