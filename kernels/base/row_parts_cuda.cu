#include "kernels/base/cuda_rows.cuh"

namespace neurogen {
namespace {

constexpr int kLanes = 32, kGroups = kRowThreads / kLanes;

// A block takes a part's 256 columns, eight a lane; each warp takes every kGroups-th row.
template <typename T>
__global__ void __launch_bounds__(kRowThreads) part_sums(const T* x, std::int64_t stride, std::int64_t rows, std::int64_t per_part,
                                                         int width, float* sums, std::int64_t sums_stride) {
  __shared__ float all[kGroups][8 * kLanes];
  const int lane = static_cast<int>(threadIdx.x) % kLanes, group = static_cast<int>(threadIdx.x) / kLanes;
  const int first = static_cast<int>(blockIdx.x) * 8 * kLanes, column = first + 8 * lane;
  const std::int64_t begin = blockIdx.y * per_part, end = min(begin + per_part, rows);
  float sum[8] = {};
  if (column < width) {
#pragma unroll 4
    for (std::int64_t row = begin + group; row < end; row += kGroups) {
      float v[8];
      read_eight(v, x + row * stride + column);
#pragma unroll
      for (int e = 0; e < 8; ++e) sum[e] += v[e];
    }
  }
  write_eight(all[group] + 8 * lane, sum);
  __syncthreads();
  const int mine = static_cast<int>(threadIdx.x);
  if (first + mine >= width) return;
  float total = all[0][mine];
  for (int g = 1; g < kGroups; ++g) total += all[g][mine];
  sums[blockIdx.y * sums_stride + first + mine] = total;
}

constexpr int kMostTotals = 3;
struct Totals {
  std::int64_t begin[kMostTotals];
  float* out[kMostTotals];
  int columns[kMostTotals];
};

// A warp takes every kGroups-th part of 32 columns, a lane each.
__global__ void __launch_bounds__(kRowThreads)
    add_parts(const float* sums, std::int64_t stride, int parts, const __grid_constant__ Totals totals) {
  __shared__ float all[kGroups][kLanes];
  const int lane = static_cast<int>(threadIdx.x) % kLanes, group = static_cast<int>(threadIdx.x) / kLanes;
  const int column = static_cast<int>(blockIdx.x) * kLanes + lane;
  float sum = 0;
  if (column < totals.columns[blockIdx.y]) {
    const float* const mine = sums + totals.begin[blockIdx.y] + column;
#pragma unroll 8
    for (int part = group; part < parts; part += kGroups) sum += mine[part * stride];
  }
  all[group][lane] = sum;
  __syncthreads();
  if (group > 0 || column >= totals.columns[blockIdx.y]) return;
  for (int g = 1; g < kGroups; ++g) sum += all[g][lane];
  totals.out[blockIdx.y][column] = sum;
}

}  // namespace

void sum_row_parts(CudaDevice& device, const char* name, const TensorView& x, const TensorView& sums) {
  const std::int64_t rows = x[0], parts = row_parts(rows);
  require_operands(x[1] % 8 == 0 && sums.dtype == DType::f32 && sums[0] == parts && sums[1] >= x[1],
                   "sums over rows: columns are a multiple of 8, and sums have a row for each part");
  dispatch_float(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    launch(device, name, part_sums<T>, dim3(pieces(x[1], 8 * kLanes), static_cast<unsigned>(parts)), dim3(kRowThreads), 0,
           x.as<const T>(), x.row_stride, rows, rows_per_part(rows), x[1], sums.as<float>(), sums.row_stride);
  });
}

void add_row_parts(CudaDevice& device, const char* name, const TensorView& sums, std::initializer_list<RowTotal> all) {
  Totals totals{};
  unsigned count = 0;
  std::int64_t widest = 0;
  for (const auto& [begin, out] : all) {
    if (!out) continue;
    require_operands(count < kMostTotals && out.dtype == DType::f32 && out.contiguous(), "sums over rows: totals must be f32");
    totals.begin[count] = begin, totals.out[count] = out.as<float>(), totals.columns[count++] = static_cast<int>(out.elements());
    widest = std::max(widest, out.elements());
  }
  launch(device, name, add_parts, dim3(pieces(widest, kLanes), count), dim3(kRowThreads), 0, sums.as<const float>(),
         sums.row_stride, sums[0], totals);
}

}  // namespace neurogen
