#include "kernels/base/dispatch.h"
#include "kernels/base/vector_math.h"
#include "kernels/cast.h"
#include "kernels/matmul.h"
#include "kernels/muon.h"

namespace neurogen {
namespace {

constexpr std::int64_t kSquare = kMuonColumns * kMuonColumns;

// One matrix of a tensor: F rows of 32, `stride` elements apart.
template <typename Real>
struct Matrix {
  const Real* gradient;
  Real *value, *momentum;
  std::int64_t fan_in, stride;
};

// Updates the momentum. x [F, 32] = u / (|u| + epsilon).
template <typename Real>
NEUROGEN_CLONES void begin(const Matrix<Real>& matrix, Real clip, Real* x) {
  constexpr Real keep = kMuonMomentum, rest = 1 - kMuonMomentum;
  for (std::int64_t f = 0; f < matrix.fan_in; ++f) {
    const Real* const gradient = matrix.gradient + f * matrix.stride;
    Real *const momentum = matrix.momentum + f * matrix.stride, *const u = x + f * kMuonColumns;
#pragma omp simd
    for (std::int64_t j = 0; j < kMuonColumns; ++j) {
      const Real g = gradient[j] * clip, m = keep * momentum[j] + rest * g;
      momentum[j] = m;
      u[j] = rest * g + keep * m;
    }
  }
  const std::int64_t n = matrix.fan_in * kMuonColumns;
  const Real squares = sum_over<Real>(n, [=](std::int64_t i) NEUROGEN_LAMBDA { return x[i] * x[i]; });
  const Real scale = Real(1) / (std::sqrt(squares) + static_cast<Real>(kMuonEpsilon));
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) x[i] *= scale;
}

// aa = linear + cubic a + quintic aa, all [32, 32]
template <typename Real>
NEUROGEN_CLONES void polynomial(const Real* a, Real* aa) {
  constexpr Real linear = kMuonLinear, cubic = kMuonCubic, quintic = kMuonQuintic;
#pragma omp simd
  for (std::int64_t i = 0; i < kSquare; ++i) aa[i] = cubic * a[i] + quintic * aa[i];
  for (std::int64_t i = 0; i < kMuonColumns; ++i) aa[i * kMuonColumns + i] += linear;
}

template <typename Real>
NEUROGEN_CLONES void finish(const Matrix<Real>& matrix, Real keep, Real rate, const Real* x) {
  for (std::int64_t f = 0; f < matrix.fan_in; ++f) {
    Real* const value = matrix.value + f * matrix.stride;
#pragma omp simd
    for (std::int64_t j = 0; j < kMuonColumns; ++j) value[j] = value[j] * keep - rate * x[f * kMuonColumns + j];
  }
}

template <typename Real>
void update(const Matrix<Real>& matrix, Real clip, Real keep, Real rate, Real* scratch) {
  const std::int64_t fan_in = matrix.fan_in;
  Real *x = scratch, *next = x + fan_in * kMuonColumns, *const a = next + fan_in * kMuonColumns, *const aa = a + kSquare;
  const auto product = [](Transpose transpose, std::int64_t m, std::int64_t k, const Real* left, const Real* right, Real* out) {
    matmul_serial<Real>(transpose, Transpose::no, m, kMuonColumns, k, left, kMuonColumns, right, kMuonColumns, Real(0), out,
                        kMuonColumns);
  };
  begin(matrix, clip, x);
  for (int step = 0; step < kMuonSteps; ++step) {
    product(Transpose::yes, kMuonColumns, fan_in, x, x, a);
    product(Transpose::no, kMuonColumns, kMuonColumns, a, a, aa);
    polynomial(a, aa);
    product(Transpose::no, fan_in, kMuonColumns, x, aa, next);
    std::swap(x, next);
  }
  finish(matrix, keep, rate, x);
}

}  // namespace

std::int64_t muon_scratch(std::int64_t fan_in) { return 2 * kMuonColumns * fan_in + 2 * kSquare; }

void muon(CpuDevice& device, const Muon& a) {
  const StepControl& control = step_control(a.control);
  if (control.overflow != 0) return;
  for (const MuonUpdate& u : a.updates) {
    require_type("muon", u.value.dtype, {a.norm, u.gradient, u.momentum, a.scratch});
    require(u.gradient.contiguous() && u.value.contiguous() && u.momentum.contiguous(), "muon: tensors must be contiguous");
    const std::int64_t fan_in = u.value[1], width = u.value[2], roles = width / kMuonColumns;
    require(u.value.rank == 3 && width % kMuonColumns == 0, "muon: synapses are [G, F, 32R]");
    require(a.scratch[0] >= device.threads() && a.scratch[1] >= muon_scratch(fan_in), "muon: the scratch tensor is too small");
    dispatch_real(u.value.dtype, [&](auto zero) {
      using Real = decltype(zero);
      const double rate = control.synapse_learning_rate;
      device.parallel(u.value[0] * roles, [&](std::int64_t i, int thread) {
        const std::int64_t at = i / roles * fan_in * width + i % roles * kMuonColumns;
        update<Real>({u.gradient.as<const Real>() + at, u.value.as<Real>() + at, u.momentum.as<Real>() + at, fan_in, width},
                     a.norm.as<const Real>()[1], static_cast<Real>(1 - rate * u.decay), static_cast<Real>(rate),
                     a.scratch.as<Real>() + thread * a.scratch.row_stride);
      });
    });
    if (u.low) cast(device, u.value, u.low);
  }
}

}  // namespace neurogen
