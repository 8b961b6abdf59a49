#include "kernels/base/cuda_rows.cuh"
#include "kernels/heads.h"

namespace neurogen {
namespace {

__global__ void angles(double theta_log2, const std::int64_t* position, float* table, std::int64_t rows, int half) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kRowThreads + threadIdx.x, row = i / half;
  if (row >= rows) return;
  const int pair = static_cast<int>(i % half);
  const std::int64_t t = row + (position ? *position : 0);
  // In half turns and float64, since a stream's position may be large.
  const double turn = static_cast<double>(t) * exp2(-theta_log2 * pair / half) * 0.31830988618379067;
  float sine, cosine;
  sincospif(static_cast<float>(turn - 2.0 * rint(0.5 * turn)), &sine, &cosine);
  table[row * 2 * half + pair] = cosine;
  table[row * 2 * half + half + pair] = sine;
}

template <typename T>
struct Heads {
  T* qkv;        // the values that are turned, or their gradients
  const T* out;  // backward: the forward pass' results
  const float *query_bias, *key_bias, *value_bias, *table;
  float* inverse;
  std::int64_t stride, out_stride, tokens, table_rows;
  int queries, keys, all;  // heads; all: those to work on
  int half;                // d / 2
  float epsilon;
};

// A head's values on this thread: eight of the first half and their partners in the second. Lanes beyond the head have zeros.
struct Pairs {
  float low[8] = {}, high[8] = {};

  template <typename T>
  __device__ void read(const T* head, int column, int half) {
    read_eight(low, head + column);
    read_eight(high, head + half + column);
  }
  template <typename T>
  __device__ void write(T* head, int column, int half) const {
    write_eight(head + column, low);
    write_eight(head + half + column, high);
  }
  __device__ float times(const Pairs& x) const {
    float sum = 0;
#pragma unroll
    for (int e = 0; e < 8; ++e) sum += low[e] * x.low[e] + high[e] * x.high[e];
    return sum;
  }
  // this = by (this - factor x)
  __device__ void project(float by, float factor, const Pairs& x) {
#pragma unroll
    for (int e = 0; e < 8; ++e) low[e] = by * (low[e] - factor * x.low[e]), high[e] = by * (high[e] - factor * x.high[e]);
  }
  // Turns by the angles of a row of the table; `sign` -1: back.
  __device__ void turn(const float* angles, int column, int half, float sign) {
    float cosine[8], sine[8];
    read_eight(cosine, angles + column);
    read_eight(sine, angles + half + column);
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const float a = low[e], b = high[e], s = sign * sine[e];
      low[e] = a * cosine[e] - b * s, high[e] = b * cosine[e] + a * s;
    }
  }
};

// `lanes` threads, a power of two, share a head of a token.
template <int lanes>
__device__ float sum_over(float x) {
#pragma unroll
  for (int step = lanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, step);
  return x;
}

template <int lanes, bool back, typename T>
__global__ void __launch_bounds__(kRowThreads) turn_heads(const Heads<T> a) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kRowThreads + threadIdx.x, place = i / lanes;
  const std::int64_t token = min(place / a.all, a.tokens - 1);
  const int head = static_cast<int>(place % a.all), column = 8 * static_cast<int>(i % lanes);
  const bool there = place < a.tokens * a.all && column < a.half, turned = head < a.queries + a.keys;
  T* const mine = a.qkv + token * a.stride + head * 2 * a.half;
  Pairs x;
  if (there) x.read(mine, column, a.half);
  const float* const angles = a.table ? a.table + token % a.table_rows * 2 * a.half : nullptr;
  if constexpr (!back) {
    const float* const bias = head < a.queries ? a.query_bias : turned ? a.key_bias : a.value_bias;
    if (there && bias) {
      Pairs b;
      b.read(bias + (head - (head < a.queries ? 0 : turned ? a.queries : a.queries + a.keys)) * 2 * a.half, column, a.half);
      x.project(1, -1, b);
    }
    if (a.inverse) {
      const float inverse = rsqrtf(sum_over<lanes>(x.times(x)) / static_cast<float>(2 * a.half) + a.epsilon);
      if (turned) x.project(inverse, 0, x);
      if (there && turned && column == 0) a.inverse[token * (a.queries + a.keys) + head] = inverse;
    }
    if (there && turned && angles) x.turn(angles, column, a.half, 1);
  } else {
    if (a.inverse) {
      Pairs y;
      if (there) y.read(a.out + token * a.out_stride + head * 2 * a.half, column, a.half);
      const float mean = sum_over<lanes>(x.times(y)) / static_cast<float>(2 * a.half);
      x.project(a.inverse[token * (a.queries + a.keys) + head], mean, y);
    }
    if (there && angles) x.turn(angles, column, a.half, -1);
  }
  if (there) x.write(mine, column, a.half);
}

template <bool back, typename T>
void run(CudaDevice& device, const Heads<T>& heads) {
  const auto with = [&](auto lanes) {
    launch(device, back ? "heads_backward" : "heads_forward", turn_heads<lanes.value, back, T>,
           dim3(pieces(heads.tokens * heads.all * lanes.value, kRowThreads)), dim3(kRowThreads), 0, heads);
  };
  if (heads.half <= 8) with(std::integral_constant<int, 1>{});
  else if (heads.half <= 16) with(std::integral_constant<int, 2>{});
  else if (heads.half <= 32) with(std::integral_constant<int, 4>{});
  else if (heads.half <= 64) with(std::integral_constant<int, 8>{});
  else with(std::integral_constant<int, 16>{});
}

// Width of a head, checked.
std::int64_t width_of(const TensorView& qkv, HeadCounts heads) {
  const std::int64_t all = heads.queries + 2 * heads.keys, width = qkv[1] / all;
  require_operands(qkv[1] % all == 0 && width % 16 == 0 && width <= 256,
                   "heads: a GPU takes heads of a multiple of 16, at most 256");
  return width;
}

}  // namespace

void rotary_table(CudaDevice& device, const RotaryTable& a) {
  require_operands(a.table.dtype == DType::f32 && a.table.contiguous(), "rotary_table: the table must be f32");
  const std::int64_t half = a.table[1] / 2;
  launch(device, "rotary_table", angles, dim3(pieces(a.table[0] * half, kRowThreads)), dim3(kRowThreads), 0, std::log2(a.theta),
         a.position.as<const std::int64_t>(), a.table.as<float>(), a.table[0], half);
}

void heads_forward(CudaDevice& device, const HeadsForward& a) {
  const std::int64_t width = width_of(a.qkv, a.heads);
  dispatch_float(a.qkv.dtype, [&](auto zero) {
    using T = decltype(zero);
    run<false, T>(device, {a.qkv.as<T>(), nullptr, a.query_bias.as<const float>(), a.key_bias.as<const float>(),
                           a.value_bias.as<const float>(), a.table.as<const float>(), a.inverse.as<float>(), a.qkv.row_stride, 0,
                           a.qkv[0], a.table ? a.table[0] : 1, static_cast<int>(a.heads.queries), static_cast<int>(a.heads.keys),
                           static_cast<int>(a.heads.queries + a.heads.keys * (a.value_bias ? 2 : 1)), static_cast<int>(width / 2),
                           static_cast<float>(a.epsilon)});
  });
}

void heads_backward(CudaDevice& device, const HeadsBackward& a) {
  const std::int64_t width = width_of(a.qkv, a.heads), queries = a.heads.queries * width, keys = a.heads.keys * width;
  if (a.table || a.inverse) {
    dispatch_float(a.qkv.dtype, [&](auto zero) {
      using T = decltype(zero);
      run<true, T>(device, {a.d_qkv.as<T>(), a.qkv.as<const T>(), nullptr, nullptr, nullptr, a.table.as<const float>(),
                            a.inverse.as<float>(), a.d_qkv.row_stride, a.qkv.row_stride, a.qkv[0], a.table ? a.table[0] : 1,
                            static_cast<int>(a.heads.queries), static_cast<int>(a.heads.keys),
                            static_cast<int>(a.heads.queries + a.heads.keys), static_cast<int>(width / 2), 0.0f});
    });
  }
  if (!a.d_query_bias && !a.d_key_bias && !a.d_value_bias) return;
  sum_row_parts(device, "heads_backward", a.d_qkv, a.sums);
  add_row_parts(device, "heads_backward", a.sums, {{0, a.d_query_bias}, {queries, a.d_key_bias}, {queries + keys, a.d_value_bias}});
}

}  // namespace neurogen
