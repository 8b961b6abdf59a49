#include "kernels/activation.h"
#include "kernels/base/row_parts_cpu.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 16;  // tokens that one thread takes at a time

// Each activation: its value, and its derivatives by u and by g.
struct Gelu {
  static constexpr bool gated = false;
  // 1/2 (1 + tanh z) = sigma(2z)
  template <typename Real>
  static NEUROGEN_INLINE Real twice_z(Real u) {
    return Real(1.5957691216057308) * (u + Real(0.044715) * u * u * u);
  }
  template <typename Real>
  static NEUROGEN_INLINE Real value(Real u, Real) {
    return u * sigmoid(twice_z(u));
  }
  template <typename Real>
  static NEUROGEN_INLINE Real by_up(Real u, Real) {
    const Real s = sigmoid(twice_z(u));
    return s + u * s * (Real(1) - s) * Real(1.5957691216057308) * (Real(1) + Real(3 * 0.044715) * u * u);
  }
  template <typename Real>
  static NEUROGEN_INLINE Real by_gate(Real, Real) {
    return 0;
  }
};

struct GatedSilu {
  static constexpr bool gated = true;
  template <typename Real>
  static NEUROGEN_INLINE Real value(Real u, Real g) {
    return silu(g) * u;
  }
  template <typename Real>
  static NEUROGEN_INLINE Real by_up(Real, Real g) {
    return silu(g);
  }
  template <typename Real>
  static NEUROGEN_INLINE Real by_gate(Real u, Real g) {
    return silu_derivative(g) * u;
  }
};

struct SquaredRelu {
  static constexpr bool gated = false;
  template <typename Real>
  static NEUROGEN_INLINE Real value(Real u, Real) {
    return u > 0 ? u * u : Real(0);
  }
  template <typename Real>
  static NEUROGEN_INLINE Real by_up(Real u, Real) {
    return u > 0 ? 2 * u : Real(0);
  }
  template <typename Real>
  static NEUROGEN_INLINE Real by_gate(Real, Real) {
    return 0;
  }
};

template <typename Body>
void dispatch_activation(Activation activation, Body&& body) {
  switch (activation) {
    case Activation::gelu_tanh:
      return body(Gelu{});
    case Activation::silu_gated:
      return body(GatedSilu{});
    case Activation::relu2:
      return body(SquaredRelu{});
  }
}

// A row, or a row's part of the sums; what is absent is null, and without a gate `gate` is never read.
template <typename Real>
struct Row {
  Real *up, *gate, *d_out, *d_up_bias, *d_gate_bias;
  const Real *up_bias, *gate_bias;
  Real* out;
};

template <typename Kind, typename Real>
NEUROGEN_CLONES void forward_row(const Row<Real>& r, std::int64_t n) {
  const auto [up, gate, d_out, d_up_bias, d_gate_bias, up_bias, gate_bias, out] = r;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const Real u = up[i] + (up_bias ? up_bias[i] : Real(0));
    const Real g = Kind::gated ? gate[i] + (gate_bias ? gate_bias[i] : Real(0)) : Real(0);
    out[i] = Kind::value(u, g);
  }
}

template <typename Kind, typename Real>
NEUROGEN_CLONES void backward_row(const Row<Real>& r, std::int64_t n) {
  const auto [up, gate, d_out, d_up_bias, d_gate_bias, up_bias, gate_bias, out] = r;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const Real u = up[i] + (up_bias ? up_bias[i] : Real(0)), d = d_out[i];
    const Real g = Kind::gated ? gate[i] + (gate_bias ? gate_bias[i] : Real(0)) : Real(0);
    up[i] = Kind::value(u, g);
    d_out[i] = d * Kind::by_up(u, g);
    if (Kind::gated) gate[i] = d * Kind::by_gate(u, g);
  }
  if (!d_up_bias) return;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) d_up_bias[i] += d_out[i];
  if (!Kind::gated) return;
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) d_gate_bias[i] += gate[i];
}

template <typename Real>
Real* row(const TensorView& x, std::int64_t n) {
  return x ? x.as<Real>() + n * x.row_stride : nullptr;
}

void require_gate(Activation activation, const TensorView& gate) {
  require((activation == Activation::silu_gated) == static_cast<bool>(gate), "activation: a gate belongs to silu_gated alone");
}

}  // namespace

void activation_forward(CpuDevice& device, const ActivationForward& a) {
  require_gate(a.activation, a.gate);
  require_type("activation_forward", a.up.dtype, {a.gate, a.up_bias, a.gate_bias, a.out});
  dispatch_real(a.up.dtype, [&](auto zero) {
    using Real = decltype(zero);
    dispatch_activation(a.activation, [&](auto kind) {
      parallel_pieces(device, a.up[0], kTokens, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t n = begin; n < end; ++n) {
          forward_row<decltype(kind), Real>({row<Real>(a.up, n), row<Real>(a.gate, n), nullptr, nullptr, nullptr,
                                             a.up_bias.as<const Real>(), a.gate_bias.as<const Real>(), row<Real>(a.out, n)},
                                            a.up[1]);
        }
      });
    });
  });
}

void activation_backward(CpuDevice& device, const ActivationBackward& a) {
  require_gate(a.activation, a.gate);
  require_type("activation_backward", a.up.dtype, {a.gate, a.up_bias, a.gate_bias, a.d_out, a.d_up_bias, a.d_gate_bias, a.sums});
  require(static_cast<bool>(a.sums) == static_cast<bool>(a.d_up_bias), "activation_backward: biases and their sums go together");
  dispatch_real(a.up.dtype, [&](auto zero) {
    using Real = decltype(zero);
    const std::int64_t rows = a.up[0], width = a.up[1];
    dispatch_activation(a.activation, [&](auto kind) {
      for_row_parts<Real>(device, rows, a.sums, [&](std::int64_t begin, std::int64_t end, Real* sums) {
        for (std::int64_t n = begin; n < end; ++n) {
          backward_row<decltype(kind), Real>(
              {row<Real>(a.up, n), row<Real>(a.gate, n), row<Real>(a.d_out, n), sums, sums ? sums + width : nullptr,
               a.up_bias.as<const Real>(), a.gate_bias.as<const Real>(), nullptr},
              width);
        }
      });
    });
    finish_row_parts<Real>(device, rows, a.sums, 0, a.d_up_bias);
    finish_row_parts<Real>(device, rows, a.sums, width, a.d_gate_bias);
  });
}

}  // namespace neurogen
