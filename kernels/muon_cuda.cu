#include "kernels/base/cuda_several.cuh"
#include "kernels/muon.h"

namespace neurogen {
namespace {

// A block has one matrix x [F, 32], and a warp 32 of its rows (zeros beyond F). Of its rows, and of every square [32, 32], a lane
// has a tile of eight vectors of four.
constexpr int kMostWarps = kMuonMostFanIn / 32, kTile = 8;
constexpr int kRow = kMuonColumns + 4;  // of a square in shared memory: vectors in neighbouring rows lie in different banks
constexpr int kSquare = kMuonColumns * kRow;

template <typename Low>
struct Tensor {
  const float* gradient;
  float *value, *momentum;
  Low* low;  // may be null
  std::int64_t fan_in, roles;
  double decay;
};

__device__ void add(float4& sum, float factor, float4 x) {
  sum.x += factor * x.x;
  sum.y += factor * x.y;
  sum.z += factor * x.z;
  sum.w += factor * x.w;
}
__device__ float4 times(float factor, float4 x) { return {factor * x.x, factor * x.y, factor * x.z, factor * x.w}; }

// Adds the outer product: a row for each element of `left`.
__device__ void add_outer(float4* sums, float4 left, float4 right) {
  add(sums[0], left.x, right);
  add(sums[1], left.y, right);
  add(sums[2], left.z, right);
  add(sums[3], left.w, right);
}

// A lane's vectors of its warp's rows: rows row + 4a, a = 0 ... 7, columns column ... column + 3. Lanes that differ in bit 0 alone
// share the row, and in bit 1 alone the column: such pairs let shared memory serve a warp's loads of vectors in two passes, not
// four. Bits 0 to 2 choose vectors in different banks.
struct Lane {
  int row = static_cast<int>((threadIdx.x >> 1 & 1) + (threadIdx.x >> 3 & 2));
  int column = static_cast<int>(4 * ((threadIdx.x & 1) * 2 + (threadIdx.x & 4) + (threadIdx.x >> 3 & 1)));

  __device__ int at(int a) const { return (row + 4 * a) * kRow + column; }
  __device__ void store(const float4 (&x)[kTile], float* rows) const {
#pragma unroll
    for (int a = 0; a < kTile; ++a) store_four(rows + at(a), x[a]);
  }
  // rows <- x^T x of the warp's rows, which lie there.
  __device__ void gram(float* rows) const {
    float4 sums[kTile] = {};
#pragma unroll 4
    for (int k = 0; k < 32; ++k) {
      const float* const x = rows + k * kRow;
      const float4 right = load_four(x + column);
      add_outer(sums, load_four(x + 4 * row), right);
      add_outer(sums + 4, load_four(x + 16 + 4 * row), right);
    }
    __syncwarp();
#pragma unroll
    for (int a = 0; a < kTile; ++a) store_four(rows + (4 * row + a % 4 + a / 4 * 16) * kRow + column, sums[a]);
  }
  // x <- rows square
  __device__ void product(const float* rows, const float* square, float4 (&x)[kTile]) const {
#pragma unroll
    for (int a = 0; a < kTile; ++a) x[a] = {};
#pragma unroll 2
    for (int k = 0; k < kMuonColumns; k += 4) {
      float4 right[4];
#pragma unroll
      for (int e = 0; e < 4; ++e) right[e] = load_four(square + (k + e) * kRow + column);
#pragma unroll
      for (int a = 0; a < kTile; ++a) {
        const float4 left = load_four(rows + (row + 4 * a) * kRow + k);
        add(x[a], left.x, right[0]);
        add(x[a], left.y, right[1]);
        add(x[a], left.z, right[2]);
        add(x[a], left.w, right[3]);
      }
    }
  }
};

// total <- the sum of `count` squares, one after the other, in this order.
__device__ void sum_squares(const float* squares, int count, float* total) {
  for (int i = static_cast<int>(threadIdx.x); i < kMuonColumns * kMuonColumns / 4; i += 32 * count) {
    const int at = i / 8 * kRow + i % 8 * 4;
    float4 sum = load_four(squares + at);
    for (int k = 1; k < count; ++k) add(sum, 1, load_four(squares + k * kSquare + at));
    store_four(total + at, sum);
  }
}

// out <- linear + cubic a + quintic a a; a is symmetric. In tiles of [4, 4].
__device__ void polynomial(const float* a, float* out, int threads) {
  constexpr float linear = kMuonLinear, cubic = kMuonCubic, quintic = kMuonQuintic;
  for (int tile = static_cast<int>(threadIdx.x); tile < 64; tile += threads) {
    const int row = tile / 8 * 4, column = tile % 8 * 4;
    const float diagonal = row == column ? linear : 0;
    float4 sums[4] = {};
#pragma unroll 4
    for (int k = 0; k < kMuonColumns; ++k) add_outer(sums, load_four(a + k * kRow + row), load_four(a + k * kRow + column));
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      float4 y = {e == 0 ? diagonal : 0, e == 1 ? diagonal : 0, e == 2 ? diagonal : 0, e == 3 ? diagonal : 0};
      add(y, cubic, load_four(a + (row + e) * kRow + column));
      add(y, quintic, sums[e]);
      store_four(out + (row + e) * kRow + column, y);
    }
  }
}

// x = orthogonal(x). `shared`: a square for each warp, and two.
__device__ void orthogonalise(float4 (&x)[kTile], int warps, float* shared) {
  const Lane lane;
  const int warp = static_cast<int>(threadIdx.x / 32);
  float *const rows = shared + warp * kSquare, *const a = shared + warps * kSquare, *const factor = a + kSquare;
  float squares = 0;
#pragma unroll
  for (const float4& v : x) squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
  squares = warp_sum(squares);
  if (threadIdx.x % 32 == 0) a[warp] = squares;
  __syncthreads();
  squares = 0;
  for (int k = 0; k < warps; ++k) squares += a[k];
  const float scale = 1 / (sqrtf(squares) + static_cast<float>(kMuonEpsilon));
#pragma unroll
  for (float4& v : x) v = times(scale, v);
#pragma unroll 1
  for (int step = 0; step < kMuonSteps; ++step) {
    lane.store(x, rows);
    __syncwarp();
    lane.gram(rows);
    __syncthreads();
    sum_squares(shared, warps, a);
    __syncthreads();
    lane.store(x, rows);
    polynomial(a, factor, 32 * warps);
    __syncthreads();
    lane.product(rows, factor, x);
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
  extern __shared__ float4 shared[];
  const Lane lane;
  const std::int64_t width = t.roles * kMuonColumns, first = 32 * warp + lane.row;
  const std::int64_t at = (matrix / t.roles * t.fan_in + first) * width + matrix % t.roles * kMuonColumns + lane.column;
  constexpr float keep = kMuonMomentum, rest = 1 - kMuonMomentum;
  const float clip = norm[1];
  float4 x[kTile];
#pragma unroll
  for (int a = 0; a < kTile; ++a) {
    x[a] = {};
    if (first + 4 * a >= t.fan_in) continue;
    const std::int64_t i = at + 4 * a * width;
    const float4 g = times(clip, load_four(t.gradient + i));
    float4 m = times(keep, load_four(t.momentum + i));
    add(m, rest, g);
    store_four(t.momentum + i, m);
    x[a] = times(rest, g);
    add(x[a], keep, m);
  }
  orthogonalise(x, warps, &shared[0].x);
  const float rate = control->synapse_learning_rate, kept = static_cast<float>(1 - static_cast<double>(rate) * t.decay);
#pragma unroll
  for (int a = 0; a < kTile; ++a) {
    if (first + 4 * a >= t.fan_in) continue;
    const std::int64_t i = at + 4 * a * width;
    float4 p = times(kept, load_four(t.value + i));
    add(p, -rate, x[a]);
    store_four(t.value + i, p);
    if (t.low) store_four(t.low + i, p);
  }
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
    launch(device, "muon", update_all<Low>, dim3(tensors.blocks), dim3(32 * warps), (warps + 2) * kSquare * sizeof(float),
           a.control.as<const StepControl>(), a.norm.as<const float>(), tensors);
  });
}

}  // namespace neurogen
