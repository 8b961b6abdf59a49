#include "kernels/cross_entropy.h"

#include <cmath>

#include "kernels/dispatch.h"
#include "kernels/vector_math.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 8;  // that one thread takes at a time

template <typename Real>
NEUROGEN_CLONES Real largest(const Real* x, std::int64_t n) {
  Real best = x[0];
#pragma omp simd reduction(max : best)
  for (std::int64_t i = 0; i < n; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

template <typename Real>
NEUROGEN_CLONES Real sum_of_exponentials(const Real* x, Real maximum, std::int64_t n) {
  return sum_over<Real>(n, [=](std::int64_t i) NEUROGEN_LAMBDA { return fast_exp(x[i] - maximum); });
}

template <typename Real>
NEUROGEN_CLONES void probabilities(Real* x, Real log_sum_exp, Real scale, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) x[i] = fast_exp(x[i] - log_sum_exp) * scale;
}

}  // namespace

void softmax_statistics(CpuDevice& device, const SoftmaxStatistics& a) {
  require_type("softmax_statistics", a.logits.dtype, {a.maximum, a.sum, a.target_logit});
  dispatch_real(a.logits.dtype, [&](auto zero) {
    using Real = decltype(zero);
    const std::int64_t width = a.logits[1];
    parallel_pieces(device, a.logits[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t n = begin; n < end; ++n) {
        const Real* x = a.logits.as<const Real>() + n * a.logits.row_stride;
        Real &maximum = a.maximum.as<Real>()[n], &sum = a.sum.as<Real>()[n];
        const Real here = largest(x, width), before = a.first_token == 0 ? here : maximum;
        const Real old_sum = a.first_token == 0 ? Real(0) : sum;
        maximum = std::max(before, here);
        sum = old_sum * std::exp(before - maximum) + sum_of_exponentials(x, maximum, width);
        const std::int64_t target = a.targets.as<const std::int32_t>()[n] - a.first_token;
        if (target >= 0 && target < width) a.target_logit.as<Real>()[n] = x[target];
      }
    });
  });
}

void cross_entropy_loss(CpuDevice&, const CrossEntropyLoss& a) {
  require_type("cross_entropy_loss", a.maximum.dtype, {a.sum, a.target_logit, a.log_sum_exp, a.loss});
  dispatch_real(a.maximum.dtype, [&](auto zero) {
    using Real = decltype(zero);
    double total = 0, counted = 0;
    for (std::int64_t n = 0; n < a.loss.elements(); ++n) {
      const Real log_sum_exp = a.maximum.as<const Real>()[n] + std::log(a.sum.as<const Real>()[n]);
      a.log_sum_exp.as<Real>()[n] = log_sum_exp;
      const bool counts = a.targets.as<const std::int32_t>()[n] >= 0;
      const Real loss = counts ? log_sum_exp - a.target_logit.as<const Real>()[n] : Real(0);
      a.loss.as<Real>()[n] = loss;
      total += static_cast<double>(loss);
      counted += counts ? 1 : 0;
    }
    a.total.as<double>()[0] = total;
    a.total.as<double>()[1] = counted;
  });
}

void cross_entropy_backward(CpuDevice& device, const CrossEntropyBackward& a) {
  require_type("cross_entropy_backward", a.logits.dtype, {a.log_sum_exp});
  dispatch_real(a.logits.dtype, [&](auto zero) {
    using Real = decltype(zero);
    const std::int64_t width = a.logits[1];
    const double counted = a.total.as<const double>()[1];
    const Real share = static_cast<Real>(counted > 0 ? 1 / counted : 0);
    parallel_pieces(device, a.logits[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t n = begin; n < end; ++n) {
        Real* x = a.logits.as<Real>() + n * a.logits.row_stride;
        const std::int64_t target = a.targets.as<const std::int32_t>()[n];
        probabilities(x, a.log_sum_exp.as<const Real>()[n], target >= 0 ? share : Real(0), width);
        if (target >= a.first_token && target < a.first_token + width) x[target - a.first_token] -= share;
      }
    });
  });
}

}  // namespace neurogen
