#include "kernels/adamw.h"

#include <cmath>

#include "kernels/dispatch.h"
#include "kernels/vector_math.h"

namespace neurogen {
namespace {

constexpr std::int64_t kPiece = 16384;  // elements a thread updates at a time

// What is the same for all elements of one update.
template <typename Real>
struct Update {
  Real clip, rate, keep, correct_m, correct_v;

  Update(double clip_, double rate_, double decay, double step)
      : clip(static_cast<Real>(clip_)),
        rate(static_cast<Real>(rate_)),
        keep(static_cast<Real>(1 - rate_ * decay)),
        correct_m(static_cast<Real>(1 / (1 - std::pow(kAdamBeta1, step)))),
        correct_v(static_cast<Real>(1 / (1 - std::pow(kAdamBeta2, step)))) {}
};

template <typename Real>
NEUROGEN_CLONES void update(const Update<Real>& u, const Real* gradient, Real* p, Real* m, Real* v, std::int64_t n) {
  constexpr Real b1 = Real(kAdamBeta1), b2 = Real(kAdamBeta2), epsilon = Real(kAdamEpsilon);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const Real g = gradient[i] * u.clip;
    m[i] = b1 * m[i] + (1 - b1) * g;
    v[i] = b2 * v[i] + (1 - b2) * g * g;
    p[i] = p[i] * u.keep - u.rate * (m[i] * u.correct_m) / (std::sqrt(v[i] * u.correct_v) + epsilon);
  }
}

}  // namespace

void adamw(CpuDevice& device, const AdamW& a) {
  require_type("adamw", a.parameter.dtype, {a.gradient, a.m, a.v, a.norm});
  const StepControl& control = step_control(a.control);
  dispatch_real(a.parameter.dtype, [&](auto zero) {
    using Real = decltype(zero);
    const Update<Real> u(static_cast<double>(a.norm.as<const Real>()[1]), static_cast<double>(control.learning_rate), a.decay,
                         static_cast<double>(control.step + 1));
    parallel_pieces(device, a.parameter.elements(), kPiece, [&](std::int64_t begin, std::int64_t end, int) {
      update(u, a.gradient.as<const Real>() + begin, a.parameter.as<Real>() + begin, a.m.as<Real>() + begin,
             a.v.as<Real>() + begin, end - begin);
    });
  });
}

void adamw_rows(CpuDevice& device, const AdamWRows& a) {
  require_type("adamw_rows", a.parameter.dtype, {a.d_rows, a.m, a.v, a.norm});
  const StepControl& control = step_control(a.control);
  const std::int64_t width = a.parameter[1];
  dispatch_real(a.parameter.dtype, [&](auto zero) {
    using Real = decltype(zero);
    device.parallel(*a.count.as<const std::int32_t>(), [&](std::int64_t i, int) {
      const std::int64_t row = a.rows.as<const std::int32_t>()[i];
      const std::int32_t step = ++a.steps.as<std::int32_t>()[row];
      const Update<Real> u(static_cast<double>(a.norm.as<const Real>()[1]), static_cast<double>(control.embedding_learning_rate), 0, step);
      update(u, a.d_rows.as<const Real>() + i * width, a.parameter.as<Real>() + row * width, a.m.as<Real>() + row * width,
             a.v.as<Real>() + row * width, width);
    });
  });
}

}  // namespace neurogen
