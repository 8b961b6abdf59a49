#include <type_traits>

#include "kernels/base/dispatch.h"
#include "kernels/base/vector_math.h"
#include "kernels/brain/microcircuit.h"
#include "kernels/brain/synapses.h"

namespace neurogen {
namespace {

// One column group of one window: pointer to its first token and stride from token to token. Null: absent.
template <typename Real>
struct Strided {
  Real* data = nullptr;
  std::int64_t stride = 0;
  NEUROGEN_INLINE Real* at(std::int64_t t) const { return data + t * stride; }
  explicit operator bool() const { return data != nullptr; }
};

// Columns of group g in a [N, 32G] view, starting at a token.
template <typename Real>
Strided<Real> columns(const TensorView& view, std::int64_t g, std::int64_t token) {
  if (!view) return {};
  return {view.as<Real>() + token * view.row_stride + g * kGroup, view.row_stride};
}

// A group's tensor [N, width] in a [G, N, width] view, starting at a token.
template <typename Real>
Strided<Real> group(const TensorView& view, std::int64_t g, std::int64_t token) {
  return {view.as<Real>() + g * view.row_stride + token * view[2], view[2]};
}

template <typename Real>
struct GateOfGroup {
  Strided<const Real> opener;
  Real bias[kGroup];
  std::int32_t index[kGroup];  // each output's opener

  GateOfGroup(const Gate& gate, std::int64_t g, std::int64_t token) {
    if (!gate.opener) return;
    opener = {gate.opener.as<const Real>() + token * gate.opener.row_stride, gate.opener.row_stride};
    for (std::int64_t j = 0; j < kGroup; ++j) {
      index[j] = static_cast<std::int32_t>((gate.first_output + g * kGroup + j) / gate.stripe);
      bias[j] = gate.bias.as<const Real>()[index[j]];
    }
  }
};

// Forget and input factors of one token. `open` is the gate's value, 1 without a gate; `shut` is 1 - i before the gate.
template <typename Real>
struct Factors {
  Real forget[kGroup], input[kGroup], open[kGroup], shut[kGroup], raw_input[kGroup];

  template <bool gated>
  NEUROGEN_INLINE void compute(const Real* u, const Real* retain, const GateOfGroup<Real>& gate, std::int64_t t) {
#pragma omp simd
    for (std::int64_t j = 0; j < kGroup; ++j) {
      const Real e = fast_exp(-(u[kGroup + j] + retain[j]));
      shut[j] = Real(1) / (Real(1) + e);
      raw_input[j] = e * shut[j];  // 1 - shut, without its loss of digits when tau is long
    }
    if constexpr (gated) {
      const Real* const opener = gate.opener.at(t);
#pragma omp simd
      for (std::int64_t j = 0; j < kGroup; ++j) {
        open[j] = sigmoid(opener[gate.index[j]] + gate.bias[j]);
        input[j] = raw_input[j] * open[j];
        forget[j] = Real(1) - input[j];
      }
    } else {
#pragma omp simd
      for (std::int64_t j = 0; j < kGroup; ++j) {
        open[j] = Real(1);
        input[j] = raw_input[j];
        forget[j] = shut[j];
      }
    }
  }
};

template <typename Real, int R>
NEUROGEN_INLINE Real output(Real h, const Real* u, std::int64_t j) {
  if constexpr (R == 2) return h;
  if constexpr (R == 3) return h * silu(u[2 * kGroup + j]);
  if constexpr (R == 4) return h * silu(u[2 * kGroup + j]) + u[3 * kGroup + j];
  if constexpr (R == 5) return h * silu(u[2 * kGroup + j]) + silu(u[3 * kGroup + j]) * u[4 * kGroup + j];
}

template <typename Real>
NEUROGEN_INLINE void clear_lanes(Real* lanes) {
  for (std::int64_t j = 0; j < kGroup; ++j) lanes[j] = Real(0);
}

template <typename Real>
struct ForwardGroup {
  Strided<const Real> currents, residual;
  const Real* retain;
  const std::int32_t* first;
  std::int64_t window;
  GateOfGroup<Real> gate;
  Real* state;
  Strided<Real> pre_norm;
};

template <typename Real, int R, bool gated>
NEUROGEN_CLONES void forward_window(const ForwardGroup<Real>& a) {
  Real h[kGroup];
  Factors<Real> factors;
  clear_lanes(h);
  if (a.state)
    for (std::int64_t j = 0; j < kGroup; ++j) h[j] = a.state[j];
  for (std::int64_t t = 0; t < a.window; ++t) {
    const Real* const u = a.currents.at(t);
    Real* const out = a.pre_norm.at(t);
    if (t > 0 && a.first[t] == t) clear_lanes(h);
    factors.template compute<gated>(u, a.retain, a.gate, t);
#pragma omp simd
    for (std::int64_t j = 0; j < kGroup; ++j) {
      h[j] = factors.forget[j] * h[j] + factors.input[j] * u[j];
      out[j] = output<Real, R>(h[j], u, j);
    }
    if (a.residual) {
      const Real* const residual = a.residual.at(t);
#pragma omp simd
      for (std::int64_t j = 0; j < kGroup; ++j) out[j] += residual[j];
    }
  }
  if (a.state)
    for (std::int64_t j = 0; j < kGroup; ++j) a.state[j] = h[j];
}

template <typename Real>
struct BackwardGroup {
  Strided<const Real> currents, residual, d_out;
  const Real *retain, *gain, *inverse_rms, *dot;
  const std::int32_t* first;
  std::int64_t window;
  GateOfGroup<Real> gate;
  Strided<Real> hidden, d_currents, d_residual, d_gate;
  Real *d_retain, *d_gain;
};

template <typename Real, int R, bool gated>
NEUROGEN_CLONES void backward_window(const BackwardGroup<Real>& a) {
  Real h[kGroup], d_h[kGroup], before[kGroup], d_y[kGroup], d_retain[kGroup], d_gain[kGroup];
  Factors<Real> factors;
  for (Real* lanes : {h, d_h, d_retain, d_gain}) clear_lanes(lanes);
  for (std::int64_t t = 0; t < a.window; ++t) {
    const Real* const u = a.currents.at(t);
    Real* const hidden = a.hidden.at(t);
    if (a.first[t] == t) clear_lanes(h);
    factors.template compute<gated>(u, a.retain, a.gate, t);
#pragma omp simd
    for (std::int64_t j = 0; j < kGroup; ++j) hidden[j] = h[j] = factors.forget[j] * h[j] + factors.input[j] * u[j];
  }
  for (std::int64_t t = a.window - 1; t >= 0; --t) {
    const Real *const u = a.currents.at(t), *const hidden = a.hidden.at(t), *const d_out = a.d_out.at(t);
    Real* const d_u = a.d_currents.at(t);
    const bool starts = t == 0 || a.first[t] == t;
    const Real inverse = a.inverse_rms[t], dot = a.dot[t];

    // Through the norm (rms_norm.h): d_y, the gradient of pre_norm, from the recomputed output.
#pragma omp simd
    for (std::int64_t j = 0; j < kGroup; ++j) d_y[j] = output<Real, R>(hidden[j], u, j);
    if (a.residual) {
      const Real* const residual = a.residual.at(t);
#pragma omp simd
      for (std::int64_t j = 0; j < kGroup; ++j) d_y[j] += residual[j];
    }
#pragma omp simd
    for (std::int64_t j = 0; j < kGroup; ++j) {
      const Real normed = d_y[j] * inverse;
      d_gain[j] += d_out[j] * normed;
      d_y[j] = inverse * (a.gain[j] * d_out[j] - normed * dot);
    }
    if (a.d_residual) {
      Real* const d_residual = a.d_residual.at(t);
#pragma omp simd
      for (std::int64_t j = 0; j < kGroup; ++j) d_residual[j] += d_y[j];
    }

    // Through the roles that shape the output.
#pragma omp simd
    for (std::int64_t j = 0; j < kGroup; ++j) {
      if constexpr (R == 2) {
        d_h[j] += d_y[j];
      } else {
        d_h[j] += d_y[j] * silu(u[2 * kGroup + j]);
        d_u[2 * kGroup + j] = d_y[j] * hidden[j] * silu_derivative(u[2 * kGroup + j]);
      }
      if constexpr (R == 4) d_u[3 * kGroup + j] = d_y[j];
      if constexpr (R == 5) {
        d_u[3 * kGroup + j] = d_y[j] * u[4 * kGroup + j] * silu_derivative(u[3 * kGroup + j]);
        d_u[4 * kGroup + j] = d_y[j] * silu(u[3 * kGroup + j]);
      }
    }

    // Through the recurrence.
    clear_lanes(before);
    if (!starts) {
      const Real* const previous = a.hidden.at(t - 1);
      for (std::int64_t j = 0; j < kGroup; ++j) before[j] = previous[j];
    }
    factors.template compute<gated>(u, a.retain, a.gate, t);
    if constexpr (gated) {
      Real* const d_gate = a.d_gate.at(t);
#pragma omp simd
      for (std::int64_t j = 0; j < kGroup; ++j) d_gate[j] = d_h[j] * (u[j] - before[j]) * factors.raw_input[j];
    }
#pragma omp simd
    for (std::int64_t j = 0; j < kGroup; ++j) {
      const Real d_forget = d_h[j] * (before[j] - u[j]) * factors.open[j] * factors.shut[j] * factors.raw_input[j];
      d_u[j] = d_h[j] * factors.input[j];
      d_u[kGroup + j] = d_forget;
      d_retain[j] += d_forget;
      d_h[j] *= factors.forget[j];
    }
    if (starts) clear_lanes(d_h);
  }
  // Adds up each window before the total, so that sections of a batch give the same bits as the whole.
  for (std::int64_t j = 0; j < kGroup; ++j) {
    a.d_retain[j] += d_retain[j];
    a.d_gain[j] += d_gain[j];
  }
}

// Calls body(Real{}, roles, gated); roles and gated are integral constants.
template <typename Body>
void dispatch_microcircuit(const char* operation, const TensorView& currents, std::int64_t window, const Gate& gate, Body&& body) {
  const std::int64_t roles = currents[2] / kGroup;
  if (roles < 2 || roles > 5 || currents[2] % kGroup != 0)
    throw Error(fmt::format("{}: an output has {} neurons: a microcircuit has 2 to 5", operation,
                            static_cast<double>(currents[2]) / kGroup));
  if (window <= 0 || currents[1] % window != 0) throw Error(fmt::format("{}: the tokens must be whole windows", operation));
  dispatch_real(currents.dtype, [&](auto zero) {
    const auto with_gate = [&](auto r) {
      if (gate.opener) body(zero, r, std::true_type{});
      else body(zero, r, std::false_type{});
    };
    if (roles == 2) with_gate(std::integral_constant<int, 2>{});
    if (roles == 3) with_gate(std::integral_constant<int, 3>{});
    if (roles == 4) with_gate(std::integral_constant<int, 4>{});
    if (roles == 5) with_gate(std::integral_constant<int, 5>{});
  });
}

constexpr std::int64_t kOpeners = 32;  // openers that one thread takes at a time

template <typename Real>
NEUROGEN_CLONES void gate_window(const GateBackward& a, std::int64_t token, std::int64_t begin, std::int64_t end) {
  Real sums[kOpeners] = {};
  const Real* const bias = a.gate.bias.as<const Real>();
  for (std::int64_t n = token; n < token + a.window; ++n) {
    const Real* const d_gate = a.d_gate.as<const Real>() + n * a.d_gate.row_stride;
    const Real* const opener = a.gate.opener.as<const Real>() + n * a.gate.opener.row_stride;
    Real* const d_opener = a.d_opener.as<Real>() + n * a.d_opener.row_stride;
    for (std::int64_t p = begin; p < end; ++p) {
      Real sum = 0;
      for (std::int64_t j = p * a.gate.stripe; j < (p + 1) * a.gate.stripe; ++j) sum += d_gate[j];
      const Real open = sigmoid(opener[p] + bias[p]), d = open * (Real(1) - open) * sum;
      d_opener[p] = d;
      sums[p - begin] += d;
    }
  }
  for (std::int64_t p = begin; p < end; ++p) a.d_bias.as<Real>()[p] += sums[p - begin];
}

}  // namespace

void microcircuit_forward(CpuDevice& device, const MicrocircuitForward& a) {
  require_type("microcircuit_forward", a.currents.dtype, {a.retain, a.gate.opener, a.gate.bias, a.residual, a.state, a.pre_norm});
  dispatch_microcircuit("microcircuit_forward", a.currents, a.window, a.gate, [&](auto zero, auto roles, auto gated) {
    using Real = decltype(zero);
    const std::int64_t windows = a.currents[1] / a.window;
    device.parallel(a.currents[0] * windows, [&](std::int64_t item, int) {
      const std::int64_t g = item / windows, window = item % windows, token = window * a.window;
      forward_window<Real, roles.value, gated.value>({.currents = group<const Real>(a.currents, g, token),
                                                      .residual = columns<const Real>(a.residual, g, token),
                                                      .retain = a.retain.as<const Real>() + g * kGroup,
                                                      .first = a.first.as<const std::int32_t>() + token,
                                                      .window = a.window,
                                                      .gate = {a.gate, g, token},
                                                      .state = columns<Real>(a.state, g, window).data,
                                                      .pre_norm = columns<Real>(a.pre_norm, g, token)});
    });
  });
}

void microcircuit_backward(CpuDevice& device, const MicrocircuitBackward& a) {
  require_type("microcircuit_backward", a.currents.dtype,
               {a.retain, a.gate.opener, a.gate.bias, a.residual, a.d_out, a.inverse_rms, a.dot, a.gain, a.hidden, a.d_currents,
                a.d_retain, a.d_gain, a.d_residual, a.d_gate});
  dispatch_microcircuit("microcircuit_backward", a.currents, a.window, a.gate, [&](auto zero, auto roles, auto gated) {
    using Real = decltype(zero);
    device.parallel(a.currents[0], [&](std::int64_t g, int) {
      for (std::int64_t token = 0; token < a.currents[1]; token += a.window)
        backward_window<Real, roles.value, gated.value>({.currents = group<const Real>(a.currents, g, token),
                                                         .residual = columns<const Real>(a.residual, g, token),
                                                         .d_out = columns<const Real>(a.d_out, g, token),
                                                         .retain = a.retain.as<const Real>() + g * kGroup,
                                                         .gain = a.gain.as<const Real>() + g * kGroup,
                                                         .inverse_rms = a.inverse_rms.as<const Real>() + token,
                                                         .dot = a.dot.as<const Real>() + token,
                                                         .first = a.first.as<const std::int32_t>() + token,
                                                         .window = a.window,
                                                         .gate = {a.gate, g, token},
                                                         .hidden = group<Real>(a.hidden, g, token),
                                                         .d_currents = group<Real>(a.d_currents, g, token),
                                                         .d_residual = columns<Real>(a.d_residual, g, token),
                                                         .d_gate = columns<Real>(a.d_gate, g, token),
                                                         .d_retain = a.d_retain.as<Real>() + g * kGroup,
                                                         .d_gain = a.d_gain.as<Real>() + g * kGroup});
    });
  });
}

void gate_backward(CpuDevice& device, const GateBackward& a) {
  require_type("gate_backward", a.d_gate.dtype, {a.gate.opener, a.gate.bias, a.d_opener, a.d_bias});
  require(a.gate.first_output == 0 && a.d_gate[1] == a.gate.opener[1] * a.gate.stripe,
          "gate_backward: the views must cover the whole module");
  require(a.window > 0 && a.d_gate[0] % a.window == 0, "gate_backward: the tokens must be whole windows");
  dispatch_real(a.d_gate.dtype, [&](auto zero) {
    using Real = decltype(zero);
    parallel_pieces(device, a.gate.opener[1], kOpeners, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t token = 0; token < a.d_gate[0]; token += a.window) gate_window<Real>(a, token, begin, end);
    });
  });
}

}  // namespace neurogen
