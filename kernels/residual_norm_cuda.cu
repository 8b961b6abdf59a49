#include "kernels/base/cuda_rows.cuh"
#include "kernels/residual_norm.h"

namespace neurogen {
namespace {

// X: of the stream; T: of products.
template <typename X, typename T>
struct Forward {
  const X* x;
  const T* branch;
  const float* branch_bias;
  X* y;
  const float *gain, *bias;
  T* out;
  float *mean, *inverse;
  std::int64_t rows;
  int width;
  float epsilon;
};

template <typename Group, bool layer, typename X, typename T>
__global__ void __launch_bounds__(kRowThreads) forward(const __grid_constant__ Forward<X, T> a) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * Group::kGroups + Group::group(), at = row * a.width;
  const int width = row < a.rows ? a.width : 0;
  float v[Group::kVectors][8], sum = 0;
  Group::each(width, [&](int k, int column) {
    read_eight(v[k], a.x + at + column);
    if (a.branch) {
      float b[8], c[8] = {};
      read_eight(b, a.branch + at + column);
      if (a.branch_bias) read_eight(c, a.branch_bias + column);
      Eight<X> y;
#pragma unroll
      for (int e = 0; e < 8; ++e) y.at[e] = from_float<X>(v[k][e] + (b[e] + c[e])), v[k][e] = to_float(y.at[e]);
      *reinterpret_cast<Eight<X>*>(a.y + at + column) = y;
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) sum += layer ? v[k][e] : v[k][e] * v[k][e];
  });
  const float each = 1.0f / static_cast<float>(a.width);
  float mean = 0, square = Group::sum(sum) * each;
  if constexpr (layer) {
    mean = square, sum = 0;
    Group::each(width, [&](int k, int) {
#pragma unroll
      for (int e = 0; e < 8; ++e) v[k][e] -= mean, sum += v[k][e] * v[k][e];
    });
    square = Group::sum(sum) * each;
  }
  const float inverse = 1.0f / sqrtf(square + a.epsilon);
  Group::each(width, [&](int k, int column) {
    float g[8], b[8] = {};
    read_eight(g, a.gain + column);
    if (a.bias) read_eight(b, a.bias + column);
#pragma unroll
    for (int e = 0; e < 8; ++e) v[k][e] = v[k][e] * inverse * g[e] + b[e];
    write_eight(a.out + at + column, v[k]);
  });
  if (width == 0 || Group::lane() > 0) return;
  a.inverse[row] = inverse;
  if constexpr (layer) a.mean[row] = mean;
}

template <typename X, typename T, typename D>
struct Backward {
  const X* y;
  const float *mean, *inverse, *gain, *bias;
  const D* d_out;
  X* d_y;
  T *d_branch, *normed;
  float* sums;  // [parts, 3 D]
  std::int64_t rows, rows_per_part;
  int width;
  bool stored;
};

// A block takes a part of the rows. `all`: also the sums for both biases.
template <typename Group, bool layer, bool all, typename X, typename T, typename D>
__global__ void __launch_bounds__(kRowThreads) backward(const __grid_constant__ Backward<X, T, D> a) {
  constexpr int kVectors = Group::kVectors;
  const std::int64_t begin = blockIdx.x * a.rows_per_part, end = min(begin + a.rows_per_part, a.rows);
  float of_gain[kVectors][8] = {}, of_bias[all ? kVectors : 1][8] = {}, of_branch[all ? kVectors : 1][8] = {};
  for (std::int64_t first = begin; first < end; first += Group::kGroups) {
    const std::int64_t row = first + Group::group(), at = row * a.width;
    const int width = row < end ? a.width : 0;
    const float mean = layer && width > 0 ? a.mean[row] : 0, inverse = width > 0 ? a.inverse[row] : 0;
    Eight<X> y[kVectors], before[kVectors];
    Eight<D> d[kVectors];
    Group::each(width, [&](int k, int column) {
      y[k] = load_eight(a.y + at + column);
      d[k] = load_eight(a.d_out + at + column);
      if (!a.stored) before[k] = load_eight(a.d_y + at + column);
    });
    float products = 0, total = 0;
    Group::each(width, [&](int k, int column) {
      float g[8];
      read_eight(g, a.gain + column);
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const float of_norm = to_float(d[k].at[e]) * g[e];
        products += of_norm * (to_float(y[k].at[e]) - mean) * inverse;
        total += of_norm;
      }
    });
    const float each = 1.0f / static_cast<float>(a.width), product = Group::sum(products) * each;
    if constexpr (layer) total = Group::sum(total) * each;
    Group::each(width, [&](int k, int column) {
      float g[8], b[8] = {}, d_y[8], normed[8];
      read_eight(g, a.gain + column);
      if (a.bias) read_eight(b, a.bias + column);
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const float of_out = to_float(d[k].at[e]), norm = (to_float(y[k].at[e]) - mean) * inverse;
        d_y[e] =
            inverse * (of_out * g[e] - norm * product - (layer ? total : 0.0f)) + (a.stored ? 0.0f : to_float(before[k].at[e]));
        normed[e] = norm * g[e] + b[e];
        of_gain[k][e] += of_out * norm;
        if constexpr (all) of_bias[k][e] += of_out, of_branch[k][e] += d_y[e];
      }
      write_eight(a.d_y + at + column, d_y);
      if (a.d_branch) write_eight(a.d_branch + at + column, d_y);
      if (a.normed) write_eight(a.normed + at + column, normed);
    });
  }
  float* const sums = a.sums + static_cast<std::int64_t>(blockIdx.x) * 3 * a.width;
  add_groups<Group>(of_gain, sums, a.width);
  if constexpr (all) {
    add_groups<Group>(of_bias, sums + a.width, a.width);
    add_groups<Group>(of_branch, sums + 2 * a.width, a.width);
  }
}

void require_f32_vectors(std::initializer_list<TensorView> vectors) {
  for (const TensorView& v : vectors)
    require_operands(!v || (v.dtype == DType::f32 && v.contiguous()), "residual_norm: vectors and statistics must be f32");
}
void require_rows(const TensorView& shape, std::initializer_list<TensorView> matrices) {
  for (const TensorView& m : matrices)
    require_operands(!m || (m.contiguous() && m[0] == shape[0] && m[1] == shape[1]), "residual_norm: the matrices' shapes differ");
}

}  // namespace

void residual_norm_forward(CudaDevice& device, const ResidualNormForward& a) {
  require_f32_vectors({a.branch_bias, a.gain, a.bias, a.mean, a.inverse});
  require_rows(a.x, {a.x, a.branch, a.y, a.out});
  require_operands(a.x.dtype == gradient_of(a.out.dtype), "residual_norm: the stream must be bf16 beside bf16, else f32");
  dispatch_float(a.out.dtype, [&](auto zero) {
    using T = decltype(zero);
    using X = GradientOf<T>;
    dispatch_row_group(a.x[1], [&](auto group) {
      using Group = decltype(group);
      launch(device, "residual_norm_forward", a.norm == Norm::layer ? forward<Group, true, X, T> : forward<Group, false, X, T>,
             dim3(pieces(a.x[0], Group::kGroups)), dim3(kRowThreads), 0,
             Forward<X, T>{a.x.as<const X>(), a.branch.as<const T>(), a.branch_bias.as<const float>(), a.y.as<X>(),
                           a.gain.as<const float>(), a.bias.as<const float>(), a.out.as<T>(), a.mean.as<float>(),
                           a.inverse.as<float>(), a.x[0], static_cast<int>(a.x[1]), static_cast<float>(a.epsilon)});
    });
  });
}

void residual_norm_backward(CudaDevice& device, const ResidualNormBackward& a) {
  const std::int64_t rows = a.y[0], width = a.y[1];
  require_f32_vectors({a.mean, a.inverse, a.gain, a.bias, a.d_gain, a.d_bias, a.d_branch_bias});
  require_rows(a.y, {a.y, a.d_out, a.d_y, a.d_branch, a.normed});
  require_operands(a.sums.dtype == DType::f32 && a.sums.elements() == row_parts(rows) * 3 * width,
                   "residual_norm: the scratch for sums has the wrong size");
  const bool all = a.d_bias || a.d_branch_bias;
  const DType products = a.normed ? a.normed.dtype : a.d_branch ? a.d_branch.dtype : a.d_out.dtype;
  const auto with = [&]<typename X, typename T, typename D>(X, T, D) {
    dispatch_row_group(width, [&](auto group) {
      using Group = decltype(group);
      const auto kernel = a.norm == Norm::layer
                              ? (all ? backward<Group, true, true, X, T, D> : backward<Group, true, false, X, T, D>)
                              : (all ? backward<Group, false, true, X, T, D> : backward<Group, false, false, X, T, D>);
      launch(device, "residual_norm_backward", kernel, dim3(static_cast<unsigned>(row_parts(rows))), dim3(kRowThreads), 0,
             Backward<X, T, D>{a.y.as<const X>(), a.mean.as<const float>(), a.inverse.as<const float>(), a.gain.as<const float>(),
                               a.bias.as<const float>(), a.d_out.as<const D>(), a.d_y.as<X>(), a.d_branch.as<T>(), a.normed.as<T>(),
                               a.sums.as<float>(), rows, rows_per_part(rows), static_cast<int>(width), a.stored});
    });
  };
  if (a.y.dtype == DType::bf16) {
    require_operands(products == DType::bf16 && a.d_out.dtype == DType::bf16,
                     "residual_norm: beside a bf16 stream all matrices must be bf16");
    with(__nv_bfloat16{}, __nv_bfloat16{}, __nv_bfloat16{});
  } else if (products == DType::f16) {
    if (a.d_out.dtype == DType::f16) with(float{}, __half{}, __half{});
    else with(float{}, __half{}, float{});
  } else {
    require_operands(products == DType::f32 && a.d_out.dtype == DType::f32,
                     "residual_norm: beside an f32 stream matrices must be f32 or f16");
    with(float{}, float{}, float{});
  }
  add_row_parts(device, "residual_norm_backward", a.sums, {{0, a.d_gain}, {width, a.d_bias}, {2 * width, a.d_branch_bias}});
}

}  // namespace neurogen
