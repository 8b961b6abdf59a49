#include "kernels/brain/microcircuit.h"
#include "kernels/brain/synapses.h"
#include "kernels/rms_norm.h"
#include "tests/kernels/cuda_tensor.h"

namespace neurogen {
namespace {

class CudaMicrocircuit : public CudaTest, public testing::WithParamInterface<DType> {
 protected:
  struct Circuit {
    std::int64_t roles, groups, window, windows, stripe;  // stripe 0: no gate
    bool has_residual, stateful, low_d_out;
    std::int64_t outputs = groups * kGroup, tokens = window * windows, openers = stripe ? outputs / stripe : 0;
    Tensor<std::int32_t> first{};
    Tensor<double> currents{}, retain{}, gain{}, opener{}, gate_bias{}, residual{}, state{}, d_out{}, inverse_rms{}, dot{};
    Tensor<double> pre_norm{}, hidden{}, d_currents{}, d_retain{}, d_gain{}, d_residual{}, d_gate{}, d_opener{}, d_gate_bias{};
  };

  Circuit make() {
    constexpr std::int64_t kStripes[] = {0, 0, 1, 2, 4, 32};
    Circuit a{.roles = draw(2, 5),
              .groups = draw(1, 4),
              .window = draw(0, 3) ? draw(1, 300) : draw(1, 3),
              .windows = draw(1, 6),
              .stripe = kStripes[draw(0, 5)],
              .has_residual = draw(0, 1) == 1,
              .stateful = draw(0, 1) == 1,
              .low_d_out = draw(0, 1) == 1};
    a.first = documents_of(a.windows, a.window, [&](auto least, auto most) { return draw(least, most); });
    a.currents = noise({a.groups, a.tokens, a.roles * kGroup});
    a.retain = noise({a.outputs}, 1, 2), a.gain = noise({a.outputs}, 0.3, 1);
    a.opener = noise({a.tokens, a.openers}), a.gate_bias = noise({a.openers}, 0.5, 1);
    if (a.has_residual) a.residual = noise({a.tokens, a.outputs}), a.d_residual = noise({a.tokens, a.outputs});
    if (a.stateful) a.state = noise({a.windows, a.outputs});
    a.d_out = noise({a.tokens, a.outputs});
    a.inverse_rms = noise({a.tokens}, 0.1, 1), a.dot = noise({a.tokens}, 0.1);
    a.pre_norm = Tensor<double>::poisoned({a.tokens, a.outputs}), a.hidden = Tensor<double>::poisoned({a.groups, a.tokens, kGroup});
    a.d_currents = Tensor<double>::poisoned(a.currents.shape);
    a.d_retain = noise({a.outputs}), a.d_gain = noise({a.outputs});
    if (a.stripe) a.d_gate = Tensor<double>::poisoned({a.tokens, a.outputs});
    a.d_opener = Tensor<double>::poisoned({a.tokens, a.openers}), a.d_gate_bias = noise({a.openers});
    return a;
  }

  struct GpuCircuit {
    OnGpu first, currents, retain, gain, opener, gate_bias, residual, state, d_out, inverse_rms, dot;
    OnGpu pre_norm, hidden, d_currents, d_retain, d_gain, d_residual, d_gate, d_opener, d_gate_bias;
  };
  static GpuCircuit copy_of(Circuit& a, DType low) {
    const auto single = [](Tensor<double>& x) { return OnGpu(x, DType::f32); };
    return {OnGpu(a.first),
            single(a.currents),
            single(a.retain),
            single(a.gain),
            OnGpu(a.opener, low),
            single(a.gate_bias),
            OnGpu(a.residual, low),
            single(a.state),
            OnGpu(a.d_out, a.low_d_out ? low : DType::f32),
            single(a.inverse_rms),
            single(a.dot),
            OnGpu(a.pre_norm, gradient_of(low)),
            single(a.hidden),
            OnGpu(a.d_currents, low),
            single(a.d_retain),
            single(a.d_gain),
            OnGpu(a.d_residual, gradient_of(low)),
            OnGpu(a.d_gate, gradient_of(low)),
            OnGpu(a.d_opener, gradient_of(low)),
            single(a.d_gate_bias)};
  }

  struct Part {
    std::int64_t group, groups, window, windows;
  };
  static Part all(const Circuit& a) { return {0, a.groups, 0, a.windows}; }
  static TensorView part(TensorView view, const Circuit& a, const Part& p, bool columns = true) {
    if (!view) return view;
    view = view.rows(p.window * a.window, p.windows * a.window);
    return columns ? view.columns(p.group * kGroup, p.groups * kGroup) : view;
  }
  template <typename AnyCircuit>
  static Gate gate(const Circuit& a, AnyCircuit& b, const Part& p) {
    if (!a.stripe) return {};
    return {part(b.opener.view(), a, p, false), b.gate_bias.view(), a.stripe, p.group * kGroup};
  }
  // The part's own tensors are called `u` and so on.
  template <typename Device, typename AnyCircuit>
  static void forward(Device& device, const Circuit& a, AnyCircuit& b, const Part& p, TensorView u) {
    const TensorView state = b.state.view();
    microcircuit_forward(device, {u, b.retain.view().rows(p.group * kGroup, p.groups * kGroup), part(b.first.view(), a, p, false),
                                  a.window, gate(a, b, p), part(b.residual.view(), a, p),
                                  state ? state.rows(p.window, p.windows).columns(p.group * kGroup, p.groups * kGroup) : state,
                                  part(b.pre_norm.view(), a, p)});
  }
  template <typename Device, typename AnyCircuit>
  static void backward(Device& device, const Circuit& a, AnyCircuit& b, const Part& p, TensorView u, TensorView hidden,
                       TensorView d_u) {
    const auto range = [&](TensorView view) { return view.rows(p.group * kGroup, p.groups * kGroup); };
    microcircuit_backward(device,
                          {u, range(b.retain.view()), part(b.first.view(), a, p, false), a.window, gate(a, b, p),
                           part(b.residual.view(), a, p), part(b.d_out.view(), a, p), part(b.inverse_rms.view(), a, p, false),
                           part(b.dot.view(), a, p, false), range(b.gain.view()), hidden, d_u, range(b.d_retain.view()),
                           range(b.d_gain.view()), part(b.d_residual.view(), a, p), part(b.d_gate.view(), a, p)});
  }
  template <typename Device, typename AnyCircuit>
  static void gates(Device& device, const Circuit& a, AnyCircuit& b, const Part& p) {
    if (!a.stripe) return;
    const OnGpu sums = OnGpu::poisoned({p.windows, a.openers}, DType::f32);
    gate_backward(device, {part(b.d_gate.view(), a, p, false), gate(a, b, p), a.window, part(b.d_opener.view(), a, p, false),
                           b.d_gate_bias.view(), sums.view()});
  }
  template <typename Device, typename AnyCircuit>
  static void run(Device& device, const Circuit& a, AnyCircuit& b) {
    forward(device, a, b, all(a), b.currents.view());
    backward(device, a, b, all(a), b.currents.view(), b.hidden.view(), b.d_currents.view());
  }
};

// Exponentials are exact to a few units of float32; sums over tokens add little error.
constexpr double kTolerance = 5e-6;

TEST_P(CudaMicrocircuit, EqualsTheCpu) {
  const double gradient = kTolerance + rounding(gradient_of(GetParam()));
  for (int i = 0; i < 25; ++i) {
    Circuit a = make();
    SCOPED_TRACE(testing::Message() << "R " << a.roles << " groups " << a.groups << " window " << a.window << " windows "
                                    << a.windows << " stripe " << a.stripe << " residual " << a.has_residual << " state "
                                    << a.stateful);
    GpuCircuit b = copy_of(a, GetParam());
    run(device_of(2), a, a);
    run(gpu(), a, b);
    expect_close_in_norm(b.pre_norm, a.pre_norm, gradient, "pre_norm");
    if (a.stateful) expect_close_in_norm(b.state, a.state, kTolerance, "state");
    expect_close_in_norm(b.d_currents, a.d_currents, kTolerance + rounding(GetParam()), "d_currents");
    expect_close_in_norm(b.d_retain, a.d_retain, kTolerance, "d_retain");
    expect_close_in_norm(b.d_gain, a.d_gain, kTolerance, "d_gain");
    if (a.has_residual) expect_close_in_norm(b.d_residual, a.d_residual, gradient, "d_residual");
    if (a.stripe) {
      expect_close_in_norm(b.d_gate, a.d_gate, gradient, "d_gate");
      a.d_gate = b.d_gate.values();  // a stripe's gradients may cancel: continues with the GPU's rounded values on both sides
      gates(device_of(2), a, a, all(a));
      gates(gpu(), a, b, all(a));
      expect_close_in_norm(b.d_opener, a.d_opener, gradient, "d_opener");
      // A sum over tokens has the rounding errors of its summands, the openers' gradients, which may cancel each other.
      Tensor<double> sizes({a.openers}, 0);
      for (std::size_t i = 0; i < a.d_opener.data.size(); ++i)
        sizes[static_cast<std::int64_t>(i) % a.openers] += std::abs(a.d_opener.data[i]);
      expect_close_beside(b.d_gate_bias, a.d_gate_bias, sizes, kTolerance, "d_gate_bias");
    }
    if (HasFailure()) return;
  }
}

TEST_P(CudaMicrocircuit, RangesAndSectionsChangeNoBit) {
  for (int i = 0; i < 10; ++i) {
    Circuit a = make();
    GpuCircuit whole = copy_of(a, GetParam()), parts = copy_of(a, GetParam());
    run(gpu(), a, whole);
    gates(gpu(), a, whole, all(a));
    const std::int64_t group = draw(0, a.groups), window = draw(0, a.windows), columns = a.roles * kGroup;
    for (const auto& [w, windows] : {std::pair{std::int64_t{0}, window}, std::pair{window, a.windows - window}}) {
      for (const auto& [g, groups] : {std::pair{std::int64_t{0}, group}, std::pair{group, a.groups - group}}) {
        if (windows == 0 || groups == 0) continue;
        const std::int64_t tokens = windows * a.window, token = w * a.window;
        Tensor<double> section({groups, tokens, columns}, 0);
        for (std::int64_t k = 0; k < groups; ++k)
          std::copy_n(&a.currents[((g + k) * a.tokens + token) * columns], tokens * columns, &section[k * tokens * columns]);
        const OnGpu u(section, DType::f32), hidden = OnGpu::poisoned({groups, tokens, kGroup}, DType::f32),
                                            d_u = OnGpu::poisoned({groups, tokens, columns}, GetParam());
        const Part p{g, groups, w, windows};
        forward(gpu(), a, parts, p, u.view());
        backward(gpu(), a, parts, p, u.view(), hidden.view(), d_u.view());
        const Tensor<double> d_part = d_u.values(), d_whole = whole.d_currents.values();
        for (std::int64_t k = 0; k < groups; ++k)
          EXPECT_EQ(std::memcmp(&d_part[k * tokens * columns], &d_whole[((g + k) * a.tokens + token) * columns],
                                static_cast<std::size_t>(tokens * columns) * sizeof(double)),
                    0);
      }
      if (windows > 0) gates(gpu(), a, parts, {0, a.groups, w, windows});
    }
    expect_same_values(parts.pre_norm, whole.pre_norm, "pre_norm");
    expect_same_values(parts.d_retain, whole.d_retain, "d_retain");
    expect_same_values(parts.d_gain, whole.d_gain, "d_gain");
    if (a.has_residual) expect_same_values(parts.d_residual, whole.d_residual, "d_residual");
    if (a.stripe) {
      expect_same_values(parts.d_gate, whole.d_gate, "d_gate");
      expect_same_values(parts.d_opener, whole.d_opener, "d_opener");
      expect_same_values(parts.d_gate_bias, whole.d_gate_bias, "d_gate_bias");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CudaMicrocircuit, testing::Values(DType::f32, DType::bf16, DType::f16),
                         [](const auto& type) { return name_of(type.param); });

}  // namespace
}  // namespace neurogen
