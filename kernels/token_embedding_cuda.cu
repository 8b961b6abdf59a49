#include "kernels/base/cuda_rows.cuh"
#include "kernels/token_embedding.h"

namespace neurogen {
namespace {

__global__ void find_places(const std::int32_t* first, std::int64_t window, const std::int64_t* position, std::int64_t most,
                            std::int32_t* places, std::int64_t tokens) {
  const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * kRowThreads + threadIdx.x;
  if (n >= tokens) return;
  places[n] = static_cast<std::int32_t>(position ? min(position[0] - position[1], most) : n % window - (first ? first[n] : 0));
}

template <typename X, typename Table>
struct Forward {
  const std::int32_t *ids, *places;
  const Table *weight, *positions;
  X* out;
  float* inverse;
  std::int64_t rows;
  int width;
  float epsilon;
};

template <typename Group, typename X, typename Table>
__global__ void __launch_bounds__(kRowThreads) forward(const __grid_constant__ Forward<X, Table> a) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * Group::kGroups + Group::group();
  const int width = row < a.rows ? a.width : 0;
  float v[Group::kVectors][8], sum = 0;
  Group::each(width, [&](int k, int column) {
    float p[8] = {};
    read_eight(v[k], a.weight + static_cast<std::int64_t>(a.ids[row]) * a.width + column);
    if (a.places) read_eight(p, a.positions + static_cast<std::int64_t>(a.places[row]) * a.width + column);
#pragma unroll
    for (int e = 0; e < 8; ++e) v[k][e] += p[e], sum += v[k][e] * v[k][e];
  });
  const float inverse = a.inverse ? rsqrtf(Group::sum(sum) / static_cast<float>(a.width) + a.epsilon) : 1.0f;
  Group::each(width, [&](int k, int column) {
#pragma unroll
    for (int e = 0; e < 8; ++e) v[k][e] *= inverse;
    write_eight(a.out + row * a.width + column, v[k]);
  });
  if (a.inverse && width > 0 && Group::lane() == 0) a.inverse[row] = inverse;
}

template <typename Group, typename X>
__global__ void __launch_bounds__(kRowThreads) backward(const X* out, const float* inverse, X* d_out, std::int64_t rows, int all) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * Group::kGroups + Group::group(), at = row * all;
  const int width = row < rows ? all : 0;
  float d[Group::kVectors][8], y[Group::kVectors][8], sum = 0;
  Group::each(width, [&](int k, int column) {
    read_eight(d[k], d_out + at + column);
    read_eight(y[k], out + at + column);
#pragma unroll
    for (int e = 0; e < 8; ++e) sum += d[k][e] * y[k][e];
  });
  const float mean = Group::sum(sum) / static_cast<float>(all), by = width > 0 ? inverse[row] : 0;
  Group::each(width, [&](int k, int column) {
#pragma unroll
    for (int e = 0; e < 8; ++e) d[k][e] = by * (d[k][e] - mean * y[k][e]);
    write_eight(d_out + at + column, d[k]);
  });
}

// The stream is f32 or bf16.
template <typename Body>
void dispatch_stream(const TensorView& x, Body&& body) {
  require_operands(x.contiguous() && x.dtype != DType::f16, "token_embedding: the stream must be f32 or bf16");
  if (x.dtype == DType::bf16) body(__nv_bfloat16{});
  else body(float{});
}

}  // namespace

void token_places(CudaDevice& device, const TokenPlaces& a) {
  launch(device, "token_places", find_places, dim3(pieces(a.places[0], kRowThreads)), dim3(kRowThreads), 0,
         a.first.as<const std::int32_t>(), a.window, a.position.as<const std::int64_t>(), a.most, a.places.as<std::int32_t>(),
         a.places[0]);
}

void token_embedding_forward(CudaDevice& device, const TokenEmbeddingForward& a) {
  require_operands(a.weight.contiguous() && (!a.positions || (a.positions.contiguous() && a.positions.dtype == a.weight.dtype)),
                   "token_embedding: the tables must be contiguous and of one type");
  dispatch_stream(a.out, [&](auto zero) {
    using X = decltype(zero);
    dispatch_row_group(a.out[1], [&](auto group) {
      using Group = decltype(group);
      dispatch_float(a.weight.dtype, [&](auto element) {
        using Table = decltype(element);
        launch(device, "token_embedding_forward", forward<Group, X, Table>, dim3(pieces(a.out[0], Group::kGroups)),
               dim3(kRowThreads), 0,
               Forward<X, Table>{a.ids.as<const std::int32_t>(), a.places.as<const std::int32_t>(), a.weight.as<const Table>(),
                                 a.positions.as<const Table>(), a.out.as<X>(), a.inverse.as<float>(), a.out[0],
                                 static_cast<int>(a.out[1]), static_cast<float>(a.epsilon)});
      });
    });
  });
}

void token_embedding_backward(CudaDevice& device, const TokenEmbeddingBackward& a) {
  require_operands(a.out.dtype == a.d_out.dtype && a.out.contiguous(),
                   "token_embedding: the stream and its gradient differ in type");
  dispatch_stream(a.d_out, [&](auto zero) {
    using X = decltype(zero);
    dispatch_row_group(a.out[1], [&](auto group) {
      using Group = decltype(group);
      launch(device, "token_embedding_backward", backward<Group, X>, dim3(pieces(a.out[0], Group::kGroups)), dim3(kRowThreads), 0,
             a.out.as<const X>(), a.inverse.as<const float>(), a.d_out.as<X>(), a.out[0], static_cast<int>(a.out[1]));
    });
  });
}

}  // namespace neurogen
