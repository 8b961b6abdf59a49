#include <algorithm>
#include <type_traits>

#include "kernels/adamw.h"
#include "kernels/base/dispatch.h"
#include "kernels/base/eight_bits.h"
#include "kernels/base/half.h"
#include "kernels/base/random.h"
#include "kernels/base/vector_math.h"
#include "kernels/cast.h"

namespace neurogen {
namespace {

constexpr std::int64_t kElements = 16384;  // elements that one thread takes at a time, whole blocks of moments

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

template <typename Real>
NEUROGEN_CLONES void moments_of(const std::uint8_t* codes_of_m, const std::uint8_t* codes_of_v, Real m_scale, Real v_scale, Real* m,
                                Real* v, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    m[i] = m_scale * share_of_m<Real>(codes_of_m[i]);
    v[i] = v_scale * share_of_v<Real>(codes_of_v[i]);
  }
}

template <typename Real>
NEUROGEN_CLONES void codes_of(const Real* m, const Real* v, const std::uint32_t* draws, std::uint8_t* codes_of_m,
                              std::uint8_t* codes_of_v, Real* m_scale, Real* v_scale, std::int64_t n) {
  Real most_m = 0, most_v = 0;
#pragma omp simd reduction(max : most_m, most_v)
  for (std::int64_t i = 0; i < n; ++i) {
    most_m = std::max(most_m, std::abs(m[i]));
    most_v = std::max(most_v, v[i]);
  }
  *m_scale = most_m, *v_scale = most_v;
  const Real by_m = by_scale(most_m), by_v = by_scale(most_v);
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    codes_of_m[i] = code_of_m(m[i] * by_m, draws[i] >> 16 & 0xFF);
    codes_of_v[i] = code_of_v(v[i] * by_v, draws[i] >> 24);
  }
}

template <typename Real, typename Stored>
NEUROGEN_CLONES void widen_all(const Stored* from, Real* to, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) to[i] = widen(from[i]);
}

template <typename Real, typename Stored>
NEUROGEN_CLONES void narrow_all(const Real* from, const std::uint32_t* draws, Stored* to, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) narrow_at_random(static_cast<float>(from[i]), draws[i] & 0xFFFF, to[i]);
}

// Calls body(Bf16*) or body(F16*) with a parameter in 16 bits.
template <typename Body>
void with_narrow(const TensorView& parameter, Body&& body) {
  if (parameter.dtype == DType::bf16) body(parameter.as<Bf16>());
  if (parameter.dtype == DType::f16) body(parameter.as<F16>());
}

// One block of a tensor that is stored in fewer bits: widened, updated and rounded.
template <typename Real>
void update_block(const Update<Real>& by, const AdamW::Update& u, std::int64_t step, std::int64_t begin, std::int64_t n) {
  std::uint32_t draws[kMomentBlock];
  for (std::int64_t i = 0; i < n; i += 4) {
    const auto words = philox(u.draws, static_cast<std::uint64_t>(step), static_cast<std::uint64_t>(begin + i) / 4);
    std::copy(words.begin(), words.end(), draws + i);
  }
  const std::int64_t block = begin / kMomentBlock;
  const bool coded = u.m.dtype == DType::u8, narrow = u.parameter.dtype == DType::bf16 || u.parameter.dtype == DType::f16;
  Real wide[3][kMomentBlock];
  Real* const p = narrow ? wide[0] : u.parameter.as<Real>() + begin;
  Real* const m = coded ? wide[1] : u.m.as<Real>() + begin;
  Real* const v = coded ? wide[2] : u.v.as<Real>() + begin;
  std::uint8_t *const m_codes = u.m.as<std::uint8_t>() + begin, *const v_codes = u.v.as<std::uint8_t>() + begin;
  Real *const m_scale = u.m_scale.as<Real>() + block, *const v_scale = u.v_scale.as<Real>() + block;
  with_narrow(u.parameter, [&](const auto* stored) { widen_all<Real>(stored + begin, p, n); });
  if (coded) moments_of<Real>(m_codes, v_codes, *m_scale, *v_scale, m, v, n);
  update<Real>(by, u.gradient.as<const Real>() + begin, p, m, v, n);
  if (coded) codes_of<Real>(m, v, draws, m_codes, v_codes, m_scale, v_scale, n);
  with_narrow(u.parameter, [&](auto* stored) { narrow_all<Real>(p, draws, stored + begin, n); });
}

}  // namespace

std::int64_t moment_blocks(std::int64_t elements) { return (elements + kMomentBlock - 1) / kMomentBlock; }

void adamw(CpuDevice& device, const AdamW& a) {
  const StepControl& control = step_control(a.control);
  if (control.overflow != 0) return;
  for (const AdamW::Update& u : a.updates) {
    const bool coded = u.m.dtype == DType::u8, narrow = u.parameter.dtype == DType::bf16 || u.parameter.dtype == DType::f16;
    const DType real = u.gradient.dtype;
    require_type("adamw", real, {a.norm, u.m_scale, u.v_scale});
    if (!narrow) require_type("adamw", real, {u.parameter});
    require_type("adamw", coded ? DType::u8 : real, {u.m, u.v});
    require(u.gradient.contiguous() && u.parameter.contiguous() && u.m.contiguous() && u.v.contiguous(),
            "adamw: tensors must be contiguous");
    require(!coded || (u.m_scale.elements() == moment_blocks(u.m.elements()) && u.v_scale.elements() == u.m_scale.elements()),
            "adamw: moments of 8 bits need a scale for each block");
    dispatch_real(real, [&](auto zero) {
      using Real = decltype(zero);
      const Update<Real> by(a.norm, control.learning_rate, u.decay, control.step + 1 - control.trunk_skips);
      parallel_pieces(device, u.parameter.elements(), kElements, [&](std::int64_t begin, std::int64_t end, int) {
        if (!coded && !narrow)
          return update<Real>(by, u.gradient.as<const Real>() + begin, u.parameter.as<Real>() + begin, u.m.as<Real>() + begin,
                              u.v.as<Real>() + begin, end - begin);
        for (std::int64_t i = begin; i < end; i += kMomentBlock)
          update_block<Real>(by, u, control.step, i, std::min(kMomentBlock, end - i));
      });
    });
    if (u.low) cast(device, u.parameter, u.low);
  }
}

}  // namespace neurogen
