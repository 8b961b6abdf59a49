#include "kernels/base/cuda_several.cuh"
#include "kernels/matmul.h"
#include "kernels/matrix_muon.h"

namespace neurogen {
namespace {

constexpr int kThreads = 256;

template <typename T, typename Low>
struct Matrix {
  const float* gradient;
  float *value, *momentum;
  T* x;  // of the update
  double* sums;
  Low* low;  // may be null
};

constexpr float kKeep = kMuonMomentum, kRest = 1 - kMuonMomentum;

// Eight elements of the update before it is orthogonalised, from the clipped gradient and the new momentum.
__device__ void update_of(float (&u)[8], const float (&g)[8], const float (&m)[8]) {
#pragma unroll
  for (int e = 0; e < 8; ++e) u[e] = kRest * g[e] + kKeep * m[e];
}

// Updates the momentum and sums the update's squares, a chunk a block.
template <typename T, typename Low>
__global__ void __launch_bounds__(kThreads)
    add_momentum(const StepControl* control, const float* norm, PieceTable<Matrix<T, Low>> matrices, std::int64_t elements) {
  if (control->overflow != 0) return;
  const auto [t, chunk] = matrices.mine();
  const float clip = norm[1];
  double sum = 0;
  const std::int64_t end = min(elements, (chunk + 1) * kMuonChunk);
  for (std::int64_t i = chunk * kMuonChunk + 8 * threadIdx.x; i < end; i += 8 * kThreads) {
    float g[8], m[8], u[8], squares = 0;
    read_eight(g, t.gradient + i);
    read_eight(m, t.momentum + i);
#pragma unroll
    for (int e = 0; e < 8; ++e) g[e] *= clip, m[e] = kKeep * m[e] + kRest * g[e];
    write_eight(t.momentum + i, m);
    update_of(u, g, m);
#pragma unroll
    for (int e = 0; e < 8; ++e) squares += u[e] * u[e];
    sum += static_cast<double>(squares);
  }
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) t.sums[chunk] = sum;
}

// x = u / (|u| + epsilon)
template <typename T, typename Low>
__global__ void __launch_bounds__(kThreads)
    normalise(const StepControl* control, const float* norm, PieceTable<Matrix<T, Low>> matrices, std::int64_t elements,
              std::int64_t chunks) {
  if (control->overflow != 0) return;
  const auto [t, chunk] = matrices.mine();
  const float clip = norm[1];
  double sum = 0;
  for (std::int64_t k = threadIdx.x; k < chunks; k += kThreads) sum += t.sums[k];
  const auto scale = static_cast<float>(1 / (sqrt(block_sum<kThreads>(sum)) + kMuonEpsilon));
  const std::int64_t end = min(elements, (chunk + 1) * kMuonChunk);
  for (std::int64_t i = chunk * kMuonChunk + 8 * threadIdx.x; i < end; i += 8 * kThreads) {
    float g[8], m[8], u[8];
    read_eight(g, t.gradient + i);
    read_eight(m, t.momentum + i);
#pragma unroll
    for (int e = 0; e < 8; ++e) g[e] *= clip;
    update_of(u, g, m);
#pragma unroll
    for (int e = 0; e < 8; ++e) u[e] *= scale;
    write_eight(t.x + i, u);
  }
}

// square = linear + cubic gram + quintic square, of every matrix [side, side] in turn.
template <typename T>
__global__ void __launch_bounds__(kThreads) polynomial(const T* gram, T* square, std::int64_t elements, int side) {
  constexpr float linear = kMuonLinear, cubic = kMuonCubic, quintic = kMuonQuintic;
  const std::int64_t i = 8 * (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x);
  if (i >= elements) return;
  float a[8], b[8];
  read_eight(a, gram + i);
  read_eight(b, square + i);
  const int row = static_cast<int>(i / side % side), column = static_cast<int>(i % side);
#pragma unroll
  for (int e = 0; e < 8; ++e) b[e] = cubic * a[e] + quintic * b[e] + (row == column + e ? linear : 0.0f);
  write_eight(square + i, b);
}

template <typename T, typename Low>
__global__ void __launch_bounds__(kThreads)
    subtract(const StepControl* control, PieceTable<Matrix<T, Low>> matrices, std::int64_t elements, float shape) {
  if (control->overflow != 0) return;
  const auto [t, chunk] = matrices.mine();
  const float rate = control->synapse_learning_rate * shape;
  const std::int64_t end = min(elements, (chunk + 1) * kMuonChunk);
  for (std::int64_t i = chunk * kMuonChunk + 8 * threadIdx.x; i < end; i += 8 * kThreads) {
    float p[8], x[8];
    read_eight(p, t.value + i);
    read_eight(x, t.x + i);
#pragma unroll
    for (int e = 0; e < 8; ++e) p[e] -= rate * x[e];
    write_eight(t.value + i, p);
    if (t.low) write_eight(t.low + i, p);
  }
}

}  // namespace

void matrix_muon(CudaDevice& device, const MatrixMuon& a) {
  const std::int64_t rows = a.x[1], columns = a.x[2], elements = rows * columns, side = a.gram[1];
  const bool tall = rows > columns;
  require_operands(rows % 8 == 0 && columns % 8 == 0, "matrix_muon: a GPU takes matrices whose sides are multiples of 8");
  DType low = DType::f32;
  std::int64_t count = 0;
  for (const MuonUpdate& u : a.updates) {
    require_operands(u.value.dtype == DType::f32 && u.value.rank == 2 && u.value[0] == rows && u.value[1] == columns,
                     "matrix_muon: the matrices must be f32, all of one shape");
    if (u.low) low = u.low.dtype;
    ++count;
  }
  const auto of = [&](const TensorView& view) { return view.rows(0, count); };
  dispatch_float(a.x.dtype, [&](auto product) {
    dispatch_float(low, [&](auto copy) {
      using T = decltype(product);
      using Low = decltype(copy);
      PieceTable<Matrix<T, Low>> matrices;
      const std::int64_t chunks = matrix_muon_sums(elements);
      std::int64_t i = 0;
      for (const MuonUpdate& u : a.updates) {
        matrices.add({u.gradient.as<const float>(), u.value.as<float>(), u.momentum.as<float>(), a.x.as<T>() + i * elements,
                      a.sums.as<double>() + i * a.sums[1], u.low.as<Low>()},
                     static_cast<unsigned>(chunks));
        ++i;
      }
      const auto* const control = a.control.as<const StepControl>();
      const auto* const norm = a.norm.as<const float>();
      const auto run = [&](auto kernel, auto... arguments) {
        launch(device, "matrix_muon", kernel, dim3(matrices.blocks), dim3(kThreads), 0, control, arguments...);
      };
      run(add_momentum<T, Low>, norm, matrices, elements);
      run(normalise<T, Low>, norm, matrices, elements, chunks);
      TensorView x = of(a.x), next = of(a.next);
      const TensorView gram = of(a.gram), square = of(a.square);
      for (int step = 0; step < kMuonSteps; ++step) {
        matmul(device, {x, x, gram, tall ? Transpose::yes : Transpose::no, tall ? Transpose::no : Transpose::yes, 0});
        matmul(device, {gram, gram, square, Transpose::no, Transpose::no, 0});
        launch(device, "matrix_muon", polynomial<T>, dim3(pieces(gram.elements(), 8 * kThreads)), dim3(kThreads), 0,
               gram.as<const T>(), square.as<T>(), gram.elements(), side);
        matmul(device, {tall ? x : square, tall ? square : x, next, Transpose::no, Transpose::no, 0});
        std::swap(x, next);
      }
      for (i = 0; i < count; ++i) matrices.items[i].x = x.as<T>() + i * elements;
      const double shape = std::sqrt(std::max(1.0, static_cast<double>(rows) / static_cast<double>(columns)));
      run(subtract<T, Low>, matrices, elements, shape);
    });
  });
}

}  // namespace neurogen
