#include "kernels/base/cuda_several.cuh"
#include "kernels/base/cuda_tile.cuh"
#include "kernels/muon.h"

namespace neurogen {
namespace {

// A block has one matrix x [F, 32], and a warp 32 of its rows (zeros beyond F) in accumulators. Products are taken on tensor cores
// in float16, of numbers in two parts, which together hold 22 bits.
constexpr int kMostWarps = kMuonMostFanIn / 32, kSide = kMuonColumns;
constexpr int kPitch = pitch_of<__half>(kSide);
constexpr int kPart = kSide * kPitch;  // elements of one part of 32 rows
constexpr float kScale = 64;           // of numbers in two parts: their low parts are normal numbers

template <typename Low>
struct Tensor {
  const float* gradient;
  float *value, *momentum;
  Low* low;  // may be null
  std::int64_t fan_in, roles;
  double decay;
};

// Rows of numbers in shared memory, as high + low.
struct Parts {
  __half *high, *low;
  __device__ Parts at(int offset) const { return {high + offset, low + offset}; }
};

template <int M, int N>
__device__ void store(const Accumulators<M, N>& x, Parts to) {
#pragma unroll
  for (int i = 0; i < M; ++i)
#pragma unroll
    for (int j = 0; j < N; ++j)
#pragma unroll
      for (int e = 0; e < 4; e += 2) {
        const int at = row_of(i, e) * kPitch + column_of(j);
        const float a = kScale * x[i][j][e], b = kScale * x[i][j][e + 1];
        const std::uint32_t high = packed<__half>(a, b);
        const float2 rounded = unpacked<__half>(high);
        *reinterpret_cast<std::uint32_t*>(to.high + at) = high;
        *reinterpret_cast<std::uint32_t*>(to.low + at) = packed<__half>(a - rounded.x, b - rounded.y);
      }
}

// acc += kScale^2 A B; the product of both low parts is left out.
template <int M, int N, Along a_along>
__device__ void multiply_parts(Accumulators<M, N>& acc, Parts a, Parts b) {
  multiply<__half, M, N, kSide, a_along, Along::across>(acc, a.low, kPitch, b.high, kPitch);
  multiply<__half, M, N, kSide, a_along, Along::across>(acc, a.high, kPitch, b.low, kPitch);
  multiply<__half, M, N, kSide, a_along, Along::across>(acc, a.high, kPitch, b.high, kPitch);
}

// x = orthogonal(x), of which every warp holds 32 rows. `rows` has room for all of them, `square` and `factor` for a square.
__device__ void orthogonalise(Accumulators<2, 4>& x, int warps, Parts rows, Parts square, Parts factor) {
  constexpr float unscale = 1 / (kScale * kScale);
  __shared__ float sums[kMostWarps];
  const int warp = static_cast<int>(threadIdx.x / 32);
  float squares = 0;
#pragma unroll
  for (int n = 0; n < 32; ++n) squares += (&x[0][0][0])[n] * (&x[0][0][0])[n];
  squares = warp_sum(squares);
  if (threadIdx.x % 32 == 0) sums[warp] = squares;
  __syncthreads();
  squares = 0;
  for (int k = 0; k < warps; ++k) squares += sums[k];
  const float scale = 1 / (sqrtf(squares) + static_cast<float>(kMuonEpsilon));
#pragma unroll
  for (int n = 0; n < 32; ++n) (&x[0][0][0])[n] *= scale;
#pragma unroll 1
  for (int step = 0; step < kMuonSteps; ++step) {
    store(x, rows.at(warp * kPart));
    __syncthreads();
    // A warp has a quarter of the square a = x^T x, and of the polynomial of it.
    for (int quarter = warp; quarter < 4; quarter += warps) {
      const int row = quarter / 2 * 16, column = quarter % 2 * 16;
      Accumulators<1, 2> a;
      clear_accumulators(a);
      for (int k = 0; k < warps; ++k) multiply_parts<1, 2, Along::across>(a, rows.at(k * kPart + row), rows.at(k * kPart + column));
#pragma unroll
      for (int n = 0; n < 8; ++n) (&a[0][0][0])[n] *= unscale;
      store(a, square.at(row * kPitch + column));
    }
    __syncthreads();
    for (int quarter = warp; quarter < 4; quarter += warps) {
      const int row = quarter / 2 * 16, column = quarter % 2 * 16;
      Accumulators<1, 2> y;
      clear_accumulators(y);
      multiply_parts<1, 2, Along::sum>(y, square.at(row * kPitch), square.at(column));
#pragma unroll
      for (int j = 0; j < 2; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int m = row + row_of(0, e), n = column + column_of(j) + e % 2, at = m * kPitch + n;
          const float a = (to_float(square.high[at]) + to_float(square.low[at])) / kScale;
          y[0][j][e] = (m == n ? static_cast<float>(kMuonLinear) : 0) + static_cast<float>(kMuonCubic) * a +
                       static_cast<float>(kMuonQuintic) * unscale * y[0][j][e];
        }
      store(y, factor.at(row * kPitch + column));
    }
    __syncthreads();
    clear_accumulators(x);
    multiply_parts<2, 4, Along::sum>(x, rows.at(warp * kPart), factor);
#pragma unroll
    for (int n = 0; n < 32; ++n) (&x[0][0][0])[n] *= unscale;
    __syncwarp();
  }
}

template <typename Low>
__global__ void __launch_bounds__(32 * kMostWarps, 2)
    update_all(const StepControl* control, const float* norm, PieceTable<Tensor<Low>> tensors) {
  if (control->overflow != 0) return;
  const auto [t, matrix] = tensors.mine();
  const int warps = static_cast<int>((t.fan_in + 31) / 32), warp = static_cast<int>(threadIdx.x / 32);
  if (warp >= warps) return;  // barriers wait for the other warps only
  const std::int64_t width = t.roles * kSide, begin = matrix / t.roles * t.fan_in * width + matrix % t.roles * kSide;
  // body(two neighbouring elements of x, their index in the tensor)
  Accumulators<2, 4> x;
  const auto each = [&](auto&& body) {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int e = 0; e < 4; e += 2) {
          const std::int64_t row = 32 * warp + row_of(i, e);
          if (row < t.fan_in) body(&x[i][j][e], begin + row * width + column_of(j));
        }
  };
  clear_accumulators(x);
  constexpr float keep = kMuonMomentum, rest = 1 - kMuonMomentum;
  const float clip = norm[1];
  each([&](float* both, std::int64_t at) {
    const float2 g = *reinterpret_cast<const float2*>(t.gradient + at);
    float2& m = *reinterpret_cast<float2*>(t.momentum + at);
    m = {keep * m.x + rest * (clip * g.x), keep * m.y + rest * (clip * g.y)};
    both[0] = rest * (clip * g.x) + keep * m.x;
    both[1] = rest * (clip * g.y) + keep * m.y;
  });
  __half* const halves = reinterpret_cast<__half*>(shared_memory);
  const auto parts = [&](int first, int count) { return Parts{halves + 2 * first * kPart, halves + (2 * first + count) * kPart}; };
  orthogonalise(x, warps, parts(0, warps), parts(warps, 1), parts(warps + 1, 1));
  const float rate = control->synapse_learning_rate, kept = static_cast<float>(1 - static_cast<double>(rate) * t.decay);
  each([&](const float* both, std::int64_t at) {
    float2& p = *reinterpret_cast<float2*>(t.value + at);
    p = {kept * p.x - rate * both[0], kept * p.y - rate * both[1]};
    if (t.low) *reinterpret_cast<Neighbours<2, Low>*>(t.low + at) = {{from_float<Low>(p.x), from_float<Low>(p.y)}};
  });
}

}  // namespace

void muon(CudaDevice& device, const Muon& a) {
  DType low = DType::f32;
  std::int64_t most = 0;
  for (const MuonUpdate& u : a.updates) {
    if (u.low) low = u.low.dtype;
    most = std::max(most, u.value[1]);
  }
  require_operands(most <= kMuonMostFanIn, "muon: a GPU takes synapses of a fan-in of at most 256");
  const unsigned warps = pieces(most, 32);
  dispatch_float(low, [&](auto zero) {
    using Low = decltype(zero);
    PieceTable<Tensor<Low>> tensors;
    for (const MuonUpdate& u : a.updates) {
      require_operands(u.value.dtype == DType::f32 && u.value.rank == 3 && u.value[2] % kMuonColumns == 0,
                       "muon: synapses are [G, F, 32R], in f32");
      const std::int64_t roles = u.value[2] / kMuonColumns;
      tensors.add(
          {u.gradient.as<const float>(), u.value.as<float>(), u.momentum.as<float>(), u.low.as<Low>(), u.value[1], roles, u.decay},
          static_cast<unsigned>(u.value[0] * roles));
    }
    launch_with(device, "muon", update_all<Low>, dim3(tensors.blocks), dim3(32 * warps), 2 * (warps + 2) * kPart * sizeof(__half),
                a.control.as<const StepControl>(), a.norm.as<const float>(), tensors);
  });
}

}  // namespace neurogen
