#include <algorithm>
#include <limits>

#include "kernels/base/dispatch.h"
#include "kernels/base/vector_math.h"
#include "kernels/cross_entropy.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 8;  // tokens that one thread takes at a time

// Adds a tile's logits of one token to its running maximum and sum.
template <typename Real, typename Cap>
NEUROGEN_CLONES void accumulate(const Real* logits, std::int64_t tile, Cap cap, Real* maximum, Real* sum) {
  Real most = std::numeric_limits<Real>::lowest();
#pragma omp simd reduction(max : most)
  for (std::int64_t i = 0; i < tile; ++i) most = logits[i] > most ? logits[i] : most;
  const Real largest = std::max(*maximum, cap(most));
  *sum = *sum * fast_exp(*maximum - largest) +
         sum_over<Real>(tile, [=](std::int64_t i) NEUROGEN_LAMBDA { return fast_exp(cap(logits[i]) - largest); });
  *maximum = largest;
}

template <typename Real, typename Cap>
NEUROGEN_CLONES void softmax_gradient(Real* logits, std::int64_t tile, Cap cap, Real log_sum_exp, Real scale) {
#pragma omp simd
  for (std::int64_t i = 0; i < tile; ++i) {
    const Real logit = cap(logits[i]);
    logits[i] = fast_exp(logit - log_sum_exp) * scale * cap.derivative(logit);
  }
}

// The gradient of one token's logits of a tile, in place; `here`: the target's place in the tile, outside of it if it is elsewhere.
template <typename Real, typename Cap>
void gradient_of(Real* logits, std::int64_t tile, std::int64_t here, Cap cap, Real log_sum_exp, Real scale) {
  const bool holds = here >= 0 && here < tile;
  const Real share = holds ? scale * cap.derivative(cap(logits[here])) : Real(0);
  softmax_gradient<Real>(logits, tile, cap, log_sum_exp, scale);
  if (holds) logits[here] -= share;
}

// What a token's softmax is multiplied by.
template <typename Real>
Real gradient_scale(const TensorView& total, const TensorView& control) {
  const double counted = total.as<const double>()[1],
               loss_scale = control ? static_cast<double>(step_control(control).loss_scale) : 1;
  return counted > 0 ? static_cast<Real>(loss_scale / counted) : Real(0);
}

template <typename Real>
NEUROGEN_CLONES void cap_all(Real* logits, std::int64_t n, Softcap<Real> cap) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) logits[i] = cap(logits[i]);
}

}  // namespace

void softmax_statistics(CpuDevice& device, const SoftmaxStatistics& a) {
  require_type("softmax_statistics", a.logits.dtype, {a.maximum, a.sum, a.target_logit});
  const std::int64_t tile = a.logits[1];
  dispatch_real(a.logits.dtype, [&](auto zero) {
    using Real = decltype(zero);
    dispatch_softcap<Real>(a.softcap, [&](auto cap) {
      parallel_pieces(device, a.logits[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t n = begin; n < end; ++n) {
          const Real* const logits = a.logits.as<const Real>() + n * a.logits.row_stride;
          Real& maximum = a.maximum.as<Real>()[n];
          Real& sum = a.sum.as<Real>()[n];
          if (a.first_token == 0) {
            maximum = std::numeric_limits<Real>::lowest();
            sum = 0;
          }
          accumulate<Real>(logits, tile, cap, &maximum, &sum);
          const std::int64_t target = a.targets.as<const std::int32_t>()[n] - a.first_token;
          if (target >= 0 && target < tile) a.target_logit.as<Real>()[n] = cap(logits[target]);
        }
      });
    });
  });
}

// On one thread: one logarithm per token costs little beside the logits, and the sum keeps its order.
void cross_entropy_loss(CpuDevice&, const CrossEntropyLoss& a) {
  require_type("cross_entropy_loss", a.loss.dtype, {a.maximum, a.sum, a.target_logit, a.log_sum_exp});
  dispatch_real(a.loss.dtype, [&](auto zero) {
    using Real = decltype(zero);
    double total = 0;
    std::int64_t counted = 0;
    for (std::int64_t n = 0; n < a.loss.elements(); ++n) {
      const bool counts = a.targets.as<const std::int32_t>()[n] >= 0;
      const double largest = a.maximum.as<const Real>()[n], log_sum = std::log(static_cast<double>(a.sum.as<const Real>()[n]));
      a.log_sum_exp.as<Real>()[n] = static_cast<Real>(largest + log_sum);
      // The difference comes first: log_sum would be lost in a large maximum.
      const double loss = counts ? largest - a.target_logit.as<const Real>()[n] + log_sum : 0;
      a.loss.as<Real>()[n] = static_cast<Real>(loss);
      total += a.loss.as<Real>()[n];
      counted += counts;
    }
    a.total.as<double>()[0] = total;
    a.total.as<double>()[1] = static_cast<double>(counted);
  });
}

void cross_entropy_backward(CpuDevice& device, const CrossEntropyBackward& a) {
  require_type("cross_entropy_backward", a.logits.dtype, {a.log_sum_exp});
  const std::int64_t tile = a.logits[1];
  dispatch_real(a.logits.dtype, [&](auto zero) {
    using Real = decltype(zero);
    const Real scale = gradient_scale<Real>(a.total, a.control);
    dispatch_softcap<Real>(a.softcap, [&](auto cap) {
      parallel_pieces(device, a.logits[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t n = begin; n < end; ++n) {
          Real* const logits = a.logits.as<Real>() + n * a.logits.row_stride;
          const std::int32_t target = a.targets.as<const std::int32_t>()[n];
          if (target < 0) std::fill(logits, logits + tile, Real(0));
          else gradient_of<Real>(logits, tile, target - a.first_token, cap, a.log_sum_exp.as<const Real>()[n], scale);
        }
      });
    });
  });
}

void count_targets(CpuDevice&, const CountTargets& a) {
  const std::int32_t* const targets = a.targets.as<const std::int32_t>();
  a.total.as<double>()[0] = 0;
  a.total.as<double>()[1] =
      static_cast<double>(std::count_if(targets, targets + a.targets.elements(), [](std::int32_t target) { return target >= 0; }));
}

void cross_entropy_rows(CpuDevice& device, const CrossEntropyRows& a) {
  require_type("cross_entropy_rows", a.logits.dtype, {a.maximum, a.sum, a.target_logit});
  const std::int64_t vocabulary = a.logits[1];
  dispatch_real(a.logits.dtype, [&](auto zero) {
    using Real = decltype(zero);
    const Real scale = gradient_scale<Real>(a.total, a.control);
    dispatch_softcap<Real>(a.softcap, [&](auto cap) {
      parallel_pieces(device, a.logits[0], 1, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t n = begin; n < end; ++n) {
          Real* const logits = a.logits.as<Real>() + n * a.logits.row_stride;
          const std::int32_t target = a.targets.as<const std::int32_t>()[n];
          Real maximum = std::numeric_limits<Real>::lowest(), sum = 0;
          accumulate<Real>(logits, vocabulary, cap, &maximum, &sum);
          a.maximum.as<Real>()[n] = maximum, a.sum.as<Real>()[n] = sum;
          if (target < 0) {
            std::fill(logits, logits + vocabulary, Real(0));
            continue;
          }
          a.target_logit.as<Real>()[n] = cap(logits[target]);
          gradient_of<Real>(logits, vocabulary, target, cap, maximum + std::log(sum), scale);
        }
      });
    });
  });
}

void softcap_logits(CpuDevice& device, const SoftcapLogits& a) {
  dispatch_real(a.logits.dtype, [&](auto zero) {
    using Real = decltype(zero);
    parallel_pieces(device, a.logits[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t n = begin; n < end; ++n)
        cap_all<Real>(a.logits.as<Real>() + n * a.logits.row_stride, a.logits[1], Softcap<Real>(a.softcap));
    });
  });
}

void likeliest_tokens(CpuDevice& device, const LikeliestTokens& a) {
  require_type("likeliest_tokens", a.logits.dtype, {a.logit});
  dispatch_real(a.logits.dtype, [&](auto zero) {
    using Real = decltype(zero);
    parallel_pieces(device, a.logits[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t n = begin; n < end; ++n) {
        const Real* const logits = a.logits.as<const Real>() + n * a.logits.row_stride;
        Real* const best = a.logit.as<Real>() + n * kLikeliest;
        std::int32_t* const token = a.token.as<std::int32_t>() + n * kLikeliest;
        if (a.first_token == 0) {
          std::fill_n(best, kLikeliest, -std::numeric_limits<Real>::infinity());
          std::fill_n(token, kLikeliest, -1);
        }
        for (std::int64_t i = 0; i < a.logits[1]; ++i) {
          if (!(logits[i] > best[kLikeliest - 1])) continue;
          std::int64_t place = kLikeliest - 1;
          for (; place > 0 && logits[i] > best[place - 1]; --place) best[place] = best[place - 1], token[place] = token[place - 1];
          best[place] = logits[i];
          token[place] = static_cast<std::int32_t>(a.first_token + i);
        }
      }
    });
  });
}

void count_hits(CpuDevice&, const CountHits& a) {
  double first = 0, any = 0;
  for (std::int64_t n = 0; n < a.targets.elements(); ++n) {
    const std::int32_t target = a.targets.as<const std::int32_t>()[n];
    const std::int32_t* const token = a.token.as<const std::int32_t>() + n * kLikeliest;
    if (target < 0) continue;
    first += token[0] == target;
    any += std::find(token, token + kLikeliest, target) != token + kLikeliest;
  }
  a.hits.as<double>()[0] = first;
  a.hits.as<double>()[1] = any;
}

}  // namespace neurogen
