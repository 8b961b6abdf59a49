#include "kernels/adamw.h"
#include "kernels/base/dispatch.h"
#include "kernels/base/vector_math.h"
#include "kernels/cast.h"

namespace neurogen {
namespace {

constexpr std::int64_t kElements = 16384;  // elements that one thread takes at a time

// The scalars that all elements of an update share.
template <typename Real>
struct Update {
  Real clip, keep, rate, correct_m, correct_v;

  // n: number of this update, from 1.
  Update(const TensorView& norm, double learning_rate, double decay, std::int64_t n)
      : clip(norm.as<const Real>()[1]),
        keep(static_cast<Real>(1 - learning_rate * decay)),
        rate(static_cast<Real>(learning_rate)),
        correct_m(static_cast<Real>(1 / (1 - std::pow(kAdamBeta1, static_cast<double>(n))))),
        correct_v(static_cast<Real>(1 / (1 - std::pow(kAdamBeta2, static_cast<double>(n))))) {}
};

template <typename Real>
NEUROGEN_CLONES void update(const Update<Real>& by, const Real* gradient, Real* parameter, Real* m, Real* v, std::int64_t n) {
  constexpr Real b1 = kAdamBeta1, b2 = kAdamBeta2, rest1 = 1 - kAdamBeta1, rest2 = 1 - kAdamBeta2, epsilon = kAdamEpsilon;
  const auto [clip, keep, rate, correct_m, correct_v] = by;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const Real g = gradient[i] * clip;
    m[i] = b1 * m[i] + rest1 * g;
    v[i] = b2 * v[i] + rest2 * g * g;
    parameter[i] = parameter[i] * keep - rate * (m[i] * correct_m) / (std::sqrt(v[i] * correct_v) + epsilon);
  }
}

}  // namespace

void adamw(CpuDevice& device, const AdamW& a) {
  const StepControl& control = step_control(a.control);
  if (control.overflow != 0) return;
  for (const AdamW::Update& u : a.updates) {
    require_type("adamw", u.parameter.dtype, {a.norm, u.gradient, u.m, u.v});
    require(u.gradient.contiguous() && u.parameter.contiguous() && u.m.contiguous() && u.v.contiguous(),
            "adamw: tensors must be contiguous");
    dispatch_real(u.parameter.dtype, [&](auto zero) {
      using Real = decltype(zero);
      const Update<Real> by(a.norm, control.learning_rate, u.decay, control.step + 1 - control.trunk_skips);
      parallel_pieces(device, u.parameter.elements(), kElements, [&](std::int64_t begin, std::int64_t end, int) {
        update<Real>(by, u.gradient.as<const Real>() + begin, u.parameter.as<Real>() + begin, u.m.as<Real>() + begin,
                     u.v.as<Real>() + begin, end - begin);
      });
    });
    if (u.low) cast(device, u.parameter, u.low);
  }
}

}  // namespace neurogen
