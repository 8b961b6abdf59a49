#include <algorithm>

#include "kernels/base/cuda_kernel.cuh"
#include "kernels/cast.h"

namespace neurogen {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostRows = 65535;  // of a grid; a block takes every gridDim.y-th row

// kWide: four elements per access, if addresses and extents allow it.
template <bool kWide, typename From, typename To>
__global__ void cast_rows(const From* from, std::int64_t from_stride, To* to, std::int64_t to_stride, std::int64_t rows,
                          std::int64_t columns) {
  constexpr int kStep = kWide ? 4 : 1;
  const std::int64_t column = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kStep;
  if (column >= columns) return;
  for (std::int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const From* in = from + row * from_stride + column;
    To* out = to + row * to_stride + column;
    if constexpr (kWide) store_four(out, load_four(in));
    else *out = from_float<To>(to_float(*in));
  }
}

template <typename From, typename To>
void cast_views(CudaDevice& device, const TensorView& from, const TensorView& to) {
  const bool one_row = from.contiguous() && to.contiguous();
  const std::int64_t rows = one_row ? 1 : to[0], columns = one_row ? to.elements() : to.row_elements();
  const auto aligned = [](const TensorView& view) {
    return reinterpret_cast<std::uintptr_t>(view.data) % (4 * size_of(view.dtype)) == 0;
  };
  const bool wide =
      aligned(from) && aligned(to) && columns % 4 == 0 && (one_row || (from.row_stride % 4 == 0 && to.row_stride % 4 == 0));
  launch(device, "cast", wide ? cast_rows<true, From, To> : cast_rows<false, From, To>,
         dim3(pieces(columns, kThreads * (wide ? 4 : 1)), static_cast<unsigned>(std::min(rows, kMostRows))), dim3(kThreads), 0,
         from.as<const From>(), from.row_stride, to.as<To>(), to.row_stride, rows, columns);
}

}  // namespace

void cast(CudaDevice& device, const TensorView& from, const TensorView& to) {
  require_operands(from.elements() == to.elements(), "cast: the tensors differ in size");
  if (from.dtype == to.dtype) {
    const std::size_t one = size_of(to.dtype), row = one * static_cast<std::size_t>(to.row_elements());
    require_cuda(cudaMemcpy2DAsync(to.data, one * static_cast<std::size_t>(to.row_stride), from.data,
                                   one * static_cast<std::size_t>(from.row_stride), row, static_cast<std::size_t>(to[0]),
                                   cudaMemcpyDefault, stream_of(device)),
                 "cast");
    return;
  }
  dispatch_float(from.dtype, [&](auto in) {
    dispatch_float(to.dtype, [&](auto out) { cast_views<decltype(in), decltype(out)>(device, from, to); });
  });
}

}  // namespace neurogen
