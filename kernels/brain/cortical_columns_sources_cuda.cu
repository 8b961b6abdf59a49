// The sources' gradient, gathered from the slots'.
#include "kernels/brain/cortical_columns_cuda.cuh"

namespace neurogen {
namespace {

template <int width>
__global__ void gather_kernel(SourceTable d_sources, unsigned stored, const Low* d_selected, const int* start, const int* readers,
                              int tokens) {
  constexpr int kLine = width / kVector<Low>;  // threads for one token
  const int v = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x), token = v / kLine, part = v % kLine * kVector<Low>;
  if (token >= tokens) return;
  const BlockRows<Low> into = find_block<Low>(d_sources, static_cast<int>(blockIdx.x) * width);
  auto& at = *reinterpret_cast<Eight<Low>*>(into.data + token * into.stride + part);
  Eight<float> sum{};
  if ((stored >> find_source(d_sources, static_cast<int>(blockIdx.x) * width) & 1) == 0) {
    const Eight<Low> before = at;
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.at[i] = to_float(before.at[i]);
  }
  const Low* const from = d_selected + static_cast<std::int64_t>(token) * width + part;
  const std::int64_t slot = static_cast<std::int64_t>(tokens) * width;
#pragma unroll 4
  for (int r = start[blockIdx.x]; r < start[blockIdx.x + 1]; ++r) {
    const uint4 vector = __ldg(reinterpret_cast<const uint4*>(from + readers[r] * slot));
#pragma unroll
    for (int i = 0; i < 8; ++i) sum.at[i] += to_float(reinterpret_cast<const Low*>(&vector)[i]);
  }
  Eight<Low> after;
#pragma unroll
  for (int i = 0; i < 8; ++i) after.at[i] = from_float<Low>(sum.at[i]);
  at = after;
}

}  // namespace

void cortical_columns_sources(CudaDevice& device, const CorticalColumnsSources& a) {
  require_sources(a.d_sources, DType::bf16);
  require_operands(a.d_selected.dtype == DType::bf16 && a.d_selected.contiguous(),
                   "cortical_columns_sources: the slots' gradient must be bf16 and contiguous");
  const std::int64_t blocks = a.reader_start[0] - 1, tokens = a.d_selected[1], width = a.d_selected[2];
  constexpr int kThreadsHere = 256;
  const dim3 grid(static_cast<unsigned>(blocks), pieces(tokens * (width / kVector<Low>), kThreadsHere));
  launch(device, "cortical_columns_sources", width == 32 ? gather_kernel<32> : gather_kernel<16>, grid, dim3(kThreadsHere), 0,
         SourceTable(a.d_sources), a.stored, a.d_selected.as<const Low>(), a.reader_start.as<const int>(),
         a.readers.as<const int>(), static_cast<int>(tokens));
}

}  // namespace neurogen
