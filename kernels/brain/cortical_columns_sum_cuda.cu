// Adds up the parts of the columns' gradients.
#include "kernels/base/cuda_several.cuh"
#include "kernels/brain/cortical_columns.h"
#include "kernels/brain/microcircuit_cuda.cuh"

namespace neurogen {
namespace {

constexpr int kSumThreads = 256;
constexpr std::int64_t kSumPiece = 4 * kSumThreads;  // elements that a block adds up

struct Parts {
  const float* parts;
  int count;
  float* total;
  std::int64_t elements;
};

__global__ void sum_kernel(PieceTable<Parts> sums) {
  const auto [s, piece] = sums.mine();
  const std::int64_t i = piece * kSumPiece + 4 * threadIdx.x;
  if (i >= s.elements) return;
  float4 sum = load_four(s.parts + i);
  for (int p = 1; p < s.count; ++p) {
    const float4 part = load_four(s.parts + p * s.elements + i);
    sum = {sum.x + part.x, sum.y + part.y, sum.z + part.z, sum.w + part.w};
  }
  store_four(s.total + i, sum);
}

}  // namespace

void cortical_columns_sum(CudaDevice& device, const Several<CorticalColumnsSum>& all) {
  PieceTable<Parts> sums;
  for (const auto& [parts, total] : all) {
    require_f32("cortical_columns_sum: gradients must be f32", {parts, total});
    const std::int64_t elements = total.elements();
    require_operands(total.contiguous() && parts.contiguous() && elements % 4 == 0 && parts.elements() % elements == 0,
                     "cortical_columns_sum: the parts must be contiguous and whole totals");
    sums.add({parts.as<const float>(), static_cast<int>(parts.elements() / elements), total.as<float>(), elements},
             pieces(elements, kSumPiece));
  }
  launch(device, "cortical_columns_sum", sum_kernel, dim3(sums.blocks), dim3(kSumThreads), 0, sums);
}

}  // namespace neurogen
