#include "kernels/base/dispatch.h"
#include "kernels/base/vector_math.h"
#include "kernels/cast.h"
#include "kernels/matmul.h"
#include "kernels/matrix_muon.h"

namespace neurogen {
namespace {

constexpr std::int64_t kRows = 16;  // of a square that one thread takes at a time

// Updates the momentum; x = u, whose squares are summed.
template <typename Real>
NEUROGEN_CLONES void begin(const Real* gradient, Real* momentum, Real* x, Real clip, std::int64_t n, double* sum) {
  constexpr Real keep = kMuonMomentum, rest = 1 - kMuonMomentum;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const Real g = gradient[i] * clip, m = keep * momentum[i] + rest * g;
    momentum[i] = m;
    x[i] = rest * g + keep * m;
  }
  *sum = sum_over<double>(n, [=](std::int64_t i) NEUROGEN_LAMBDA { return static_cast<double>(x[i]) * x[i]; });
}

template <typename Real>
NEUROGEN_CLONES void multiply_by(Real* x, Real factor, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) x[i] *= factor;
}

// A row of the polynomial: square = linear + cubic gram + quintic square
template <typename Real>
NEUROGEN_CLONES void polynomial(const Real* gram, Real* square, std::int64_t row, std::int64_t n) {
  constexpr Real linear = kMuonLinear, cubic = kMuonCubic, quintic = kMuonQuintic;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) square[i] = cubic * gram[i] + quintic * square[i];
  square[row] += linear;
}

template <typename Real>
NEUROGEN_CLONES void subtract(const Real* x, Real rate, Real* value, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) value[i] -= rate * x[i];
}

template <typename Real>
void update(CpuDevice& device, const MatrixMuon& a, std::int64_t count, double learning_rate) {
  const std::int64_t rows = a.x[1], columns = a.x[2], elements = rows * columns, side = a.gram[1], chunks = a.sums[1];
  const auto each_chunk = [&](auto&& body) {  // body(update, x, begin, elements, chunk)
    device.parallel(count * chunks, [&](std::int64_t i, int) {
      const std::int64_t matrix = i / chunks, chunk = i % chunks, from = chunk * kMuonChunk;
      body(a.updates.begin()[matrix], a.x.as<Real>() + matrix * elements + from, from, std::min(kMuonChunk, elements - from), i);
    });
  };
  double* const sums = a.sums.as<double>();
  each_chunk([&](const MuonUpdate& u, Real* x, std::int64_t from, std::int64_t n, std::int64_t i) {
    begin<Real>(u.gradient.as<const Real>() + from, u.momentum.as<Real>() + from, x, a.norm.as<const Real>()[1], n, sums + i);
  });
  each_chunk([&](const MuonUpdate&, Real* x, std::int64_t, std::int64_t n, std::int64_t i) {
    const double* const own = sums + i / chunks * chunks;
    const double squares = sum_over<double>(chunks, [=](std::int64_t k) { return own[k]; });
    multiply_by<Real>(x, static_cast<Real>(1 / (std::sqrt(squares) + kMuonEpsilon)), n);
  });
  const auto of = [&](TensorView view) { return view.rows(0, count); };
  TensorView x = of(a.x), next = of(a.next);
  const TensorView gram = of(a.gram), square = of(a.square);
  const bool tall = rows > columns;
  for (int step = 0; step < kMuonSteps; ++step) {
    matmul(device, {x, x, gram, tall ? Transpose::yes : Transpose::no, tall ? Transpose::no : Transpose::yes, 0});
    matmul(device, {gram, gram, square, Transpose::no, Transpose::no, 0});
    parallel_pieces(device, count * side, kRows, [&](std::int64_t first, std::int64_t end, int) {
      for (std::int64_t r = first; r < end; ++r)
        polynomial<Real>(gram.as<const Real>() + r * side, square.as<Real>() + r * side, r % side, side);
    });
    matmul(device, {tall ? x : square, tall ? square : x, next, Transpose::no, Transpose::no, 0});
    std::swap(x, next);
  }
  // An odd number of steps ends in `next`.
  const double shape = std::sqrt(std::max(1.0, static_cast<double>(rows) / static_cast<double>(columns)));
  const Real* const result = x.as<const Real>();
  const Real rate = static_cast<Real>(learning_rate * shape);
  each_chunk([&](const MuonUpdate& u, Real*, std::int64_t from, std::int64_t n, std::int64_t i) {
    subtract<Real>(result + i / chunks * elements + from, rate, u.value.as<Real>() + from, n);
  });
}

}  // namespace

void matrix_muon(CpuDevice& device, const MatrixMuon& a) {
  const StepControl& control = step_control(a.control);
  if (control.overflow != 0) return;
  std::int64_t count = 0;
  for (const MuonUpdate& u : a.updates) {
    require_type("matrix_muon", a.x.dtype, {a.norm, u.gradient, u.value, u.momentum, a.next, a.gram, a.square});
    require(u.gradient.contiguous() && u.value.contiguous() && u.momentum.contiguous(), "matrix_muon: tensors must be contiguous");
    require(u.value.rank == 2 && u.value[0] == a.x[1] && u.value[1] == a.x[2], "matrix_muon: matrices must have one shape");
    ++count;
  }
  require(a.x[0] >= count && a.next[0] >= count && a.gram[0] >= count && a.square[0] >= count && a.sums[0] >= count &&
              a.sums[1] == matrix_muon_sums(a.x.row_elements()) && a.gram[1] == std::min(a.x[1], a.x[2]),
          "matrix_muon: the scratch tensors are too small");
  dispatch_real(a.x.dtype, [&](auto zero) { update<decltype(zero)>(device, a, count, control.synapse_learning_rate); });
  for (const MuonUpdate& u : a.updates)
    if (u.low) cast(device, u.value, u.low);
}

}  // namespace neurogen
