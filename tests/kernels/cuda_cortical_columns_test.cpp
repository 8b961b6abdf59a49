// Compares synapses and microcircuit in one pass with the two operations on the CPU in float64.
#include "kernels/brain/cortical_columns.h"
#include "kernels/rms_norm.h"
#include "tests/kernels/cuda_wiring.h"

namespace neurogen {
namespace {

class CudaCorticalColumns : public CudaWiringTest {
 protected:
  struct Net {
    std::int64_t roles, width, slots, groups, window, windows, stripe, parts;  // stripe 0: no gate
    bool has_residual;
    unsigned stored = 0;  // bit k: d_sources[k] holds nothing yet
    bool residual_stored = false;
    std::int64_t columns = roles * kGroup, fan_in = slots * width, outputs = groups * kGroup, tokens = window * windows,
                 openers = stripe ? outputs / stripe : 0, blocks = 0;
    std::vector<Tensor<double>> sources{}, d_sources{};
    Tensor<std::int32_t> wiring{}, first{}, reader_start{}, readers{};
    Tensor<double> weight{}, taps{}, bias{}, retain{}, gain{}, opener{}, gate_bias{}, residual{}, d_out{}, inverse_rms{}, dot{};
    Tensor<double> currents{}, hidden{}, d_currents{}, scratch{}, pre_norm{}, carried{};
    Tensor<double> d_weight{}, d_taps{}, d_bias{}, d_retain{}, d_gain{}, d_residual{}, d_gate{};
  };

  Net make() {
    constexpr std::int64_t kStripes[] = {0, 0, 0, 1, 2, 4, 32};
    const bool wide = draw(0, 2) > 0;
    Net a{.roles = draw(2, 5),
          .width = wide ? 32 : 16,
          .slots = draw(1, wide ? 4 : 8),
          .groups = draw(1, 5),
          .window = draw(0, 4) ? draw(1, 300) : draw(1, 3),
          .windows = draw(1, 5),
          .stripe = kStripes[draw(0, 6)],
          .parts = draw(1, 3),
          .has_residual = draw(0, 1) == 1};
    if (a.stripe == 32) a.groups = 8;  // the opener's rows are whole vectors
    if (a.stripe == 4 && a.groups % 2) ++a.groups;
    a.outputs = a.groups * kGroup, a.openers = a.stripe ? a.outputs / a.stripe : 0;
    draw_wiring(a);
    a.stored = static_cast<unsigned>(draw(0, 15));
    for (std::size_t s = 0; s < a.d_sources.size(); ++s)
      if (a.stored >> s & 1) std::fill(a.d_sources[s].data.begin(), a.d_sources[s].data.end(), 0.0);
    a.first = documents_of(a.windows, a.window, [&](auto least, auto most) { return draw(least, most); });
    a.weight = noise({a.groups, a.fan_in, a.columns}, 0.2), a.bias = noise({a.roles, a.outputs});
    a.taps = noise({2 * a.roles, a.outputs});
    a.retain = noise({a.outputs}, 1, 2), a.gain = noise({a.outputs}, 0.3, 1);
    a.opener = noise({a.tokens, a.openers}), a.gate_bias = noise({a.openers}, 0.5, 1);
    if (a.has_residual) a.residual = noise({a.tokens, a.outputs}), a.d_residual = noise({a.tokens, a.outputs});
    if (a.has_residual && draw(0, 1) == 1) a.residual_stored = true, a.d_residual = Tensor<double>({a.tokens, a.outputs}, 0);
    a.d_out = noise({a.tokens, a.outputs});
    a.inverse_rms = noise({a.tokens}, 0.1, 1), a.dot = noise({a.tokens}, 0.1);
    a.currents = a.d_currents = Tensor<double>::poisoned({a.groups, a.tokens, a.columns});
    a.hidden = Tensor<double>::poisoned({a.groups, a.tokens, kGroup});
    a.scratch = Tensor<double>({2, synapses_scratch(a.fan_in + a.columns, a.window)}, 0);
    a.pre_norm = Tensor<double>::poisoned({a.tokens, a.outputs});
    a.carried = Tensor<double>::poisoned({a.windows * carries(a.window), a.outputs});
    a.d_weight = noise(a.weight.shape), a.d_taps = noise(a.taps.shape), a.d_bias = noise({a.roles, a.outputs});
    a.d_retain = noise({a.outputs}), a.d_gain = noise({a.outputs});
    if (a.stripe) a.d_gate = Tensor<double>::poisoned({a.tokens, a.outputs});
    return a;
  }

  struct GpuNet {
    std::vector<OnGpu> sources{}, d_sources{};
    OnGpu wiring, first, reader_start, readers, weight, taps, bias, retain, gain, opener, gate_bias, residual, d_out, inverse_rms,
        dot;
    OnGpu pre_norm, carried, d_weight, d_taps, d_bias, d_retain, d_gain, d_residual, d_gate;
    OnGpu d_weight_parts{}, d_taps_parts{}, d_bias_parts{}, d_retain_parts{}, d_gain_parts{};
  };
  static GpuNet copy_of(Net& a) {
    const auto single = [](Tensor<double>& x) { return OnGpu(x, DType::f32); };
    const auto low = [](Tensor<double>& x) { return OnGpu(x, DType::bf16); };
    GpuNet b{.wiring = OnGpu(a.wiring),
             .first = OnGpu(a.first),
             .reader_start = OnGpu(a.reader_start),
             .readers = OnGpu(a.readers),
             .weight = low(a.weight),
             .taps = single(a.taps),
             .bias = single(a.bias),
             .retain = single(a.retain),
             .gain = single(a.gain),
             .opener = low(a.opener),
             .gate_bias = single(a.gate_bias),
             .residual = low(a.residual),
             .d_out = low(a.d_out),
             .inverse_rms = single(a.inverse_rms),
             .dot = single(a.dot),
             .pre_norm = low(a.pre_norm),
             .carried = single(a.carried),
             .d_weight = single(a.d_weight),
             .d_taps = single(a.d_taps),
             .d_bias = single(a.d_bias),
             .d_retain = single(a.d_retain),
             .d_gain = single(a.d_gain),
             .d_residual = a.residual_stored ? OnGpu(DType::bf16, a.d_residual.shape) : low(a.d_residual),
             .d_gate = low(a.d_gate)};
    for (Tensor<double>& x : a.sources) b.sources.push_back(low(x));
    for (std::size_t s = 0; s < a.d_sources.size(); ++s)
      b.d_sources.push_back(a.stored >> s & 1 ? OnGpu(DType::bf16, a.d_sources[s].shape) : OnGpu(a.d_sources[s], DType::bf16));
    return b;
  }

  static void run_on_cpu(Net& a) {
    CpuDevice& cpu = device_of(2);
    const Gate gate = a.stripe ? Gate{a.opener.view(), a.gate_bias.view(), a.stripe, 0} : Gate{};
    const Taps taps{a.taps.view(), a.first.view(), a.window};
    synapses_forward(cpu, {all(a.sources, 0, a.tokens), a.wiring.view(), a.weight.view(), taps, a.bias.view(), a.currents.view(),
                           a.window, a.scratch.view()});
    microcircuit_forward(
        cpu, {a.currents.view(), a.retain.view(), a.first.view(), a.window, gate, a.residual.view(), {}, a.pre_norm.view()});
    microcircuit_backward(cpu, {a.currents.view(), a.retain.view(), a.first.view(), a.window, gate, a.residual.view(),
                                a.d_out.view(), a.inverse_rms.view(), a.dot.view(), a.gain.view(), a.hidden.view(),
                                a.d_currents.view(), a.d_retain.view(), a.d_gain.view(), a.d_residual.view(), a.d_gate.view()});
    synapses_backward_weights(cpu, {all(a.sources, 0, a.tokens), a.wiring.view(), a.weight.view(), taps, a.d_currents.view(),
                                    a.d_weight.view(), a.d_taps.view(), a.d_bias.view(), a.window, a.scratch.view()});
    synapses_readers(cpu, {a.wiring.view(), a.reader_start.view(), a.readers.view()});
    synapses_backward_sources(cpu, {a.d_currents.view(), a.weight.view(), taps, a.reader_start.view(), a.readers.view(),
                                    all(a.d_sources, 0, a.tokens), a.window, a.scratch.view()});
  }

  // Windows [window, window + windows).
  static void run_on_gpu(const Net& a, GpuNet& b, std::int64_t window, std::int64_t windows) {
    const std::int64_t token = window * a.window, tokens = windows * a.window;
    const auto rows = [&](const OnGpu& x) { return x.view() ? x.view().rows(token, tokens) : x.view(); };
    const Gate gate = a.stripe ? Gate{rows(b.opener), b.gate_bias.view(), a.stripe, 0} : Gate{};
    const CorticalColumns columns{all(b.sources, token, tokens),
                                  b.wiring.view(),
                                  b.weight.view(),
                                  b.taps.view(),
                                  b.bias.view(),
                                  b.retain.view(),
                                  rows(b.first),
                                  a.window,
                                  gate,
                                  rows(b.residual),
                                  b.carried.view().rows(window * carries(a.window), windows * carries(a.window))};
    const OnGpu d_selected = OnGpu::poisoned({a.groups * a.slots, tokens, a.width}, DType::bf16);
    if (window == 0)
      b.d_weight_parts = parts_of(b.d_weight.values(), a.parts), b.d_taps_parts = parts_of(b.d_taps.values(), a.parts),
      b.d_bias_parts = parts_of(b.d_bias.values(), a.parts), b.d_retain_parts = parts_of(b.d_retain.values(), a.parts),
      b.d_gain_parts = parts_of(b.d_gain.values(), a.parts);
    cortical_columns_forward(gpu(), {columns, rows(b.pre_norm)});
    cortical_columns_backward(
        gpu(), {columns, rows(b.d_out), rows(b.inverse_rms), rows(b.dot), b.gain.view(), d_selected.view(), a.parts, window,
                b.d_weight_parts.view(), b.d_taps_parts.view(), b.d_bias_parts.view(), b.d_retain_parts.view(),
                b.d_gain_parts.view(), rows(b.d_residual), rows(b.d_gate), a.residual_stored});
    synapses_readers(gpu(), {b.wiring.view(), b.reader_start.view(), b.readers.view()});
    cortical_columns_sources(
        gpu(), {d_selected.view(), b.reader_start.view(), b.readers.view(), all(b.d_sources, token, tokens), a.stored});
    if (window + windows == a.windows) {
      cortical_columns_sum(gpu(), {{b.d_weight_parts, b.d_weight},
                                   {b.d_taps_parts, b.d_taps},
                                   {b.d_bias_parts, b.d_bias},
                                   {b.d_retain_parts, b.d_retain},
                                   {b.d_gain_parts, b.d_gain}});
    }
    gpu().synchronize();
  }
};

TEST_F(CudaCorticalColumns, EqualTheCpu) {
  constexpr double kExact = 1e-5, kRounded = 0x1p-8;  // float32; one intermediate rounding to bf16
  for (int i = 0; i < 60; ++i) {
    const Bytes shared_memory = i % 3 == 0 ? UINT64_MAX : i % 3 == 1 ? kOfSmallerCards : 2 * kOfSmallerCards;
    const SharedMemory limit(shared_memory);
    Net a = make();
    SCOPED_TRACE(testing::Message() << "shared memory " << shared_memory << " R " << a.roles << " width " << a.width << " slots "
                                    << a.slots << " groups " << a.groups << " window " << a.window << " windows " << a.windows
                                    << " stripe " << a.stripe << " parts " << a.parts << " residual " << a.has_residual
                                    << " stored " << a.stored << " " << a.residual_stored);
    GpuNet b = copy_of(a);
    run_on_cpu(a);
    run_on_gpu(a, b, 0, a.windows);
    expect_close_in_norm(b.pre_norm, a.pre_norm, kRounded, "pre_norm");
    // Rounded are gradients of currents, then those of sums; for d_taps sums as well.
    expect_close_in_norm(b.d_weight, a.d_weight, 2 * kRounded, "d_weight");
    expect_close_in_norm(b.d_taps, a.d_taps, 2 * kRounded, "d_taps");
    expect_close_in_norm(b.d_bias, a.d_bias, kExact, "d_bias");
    expect_close_in_norm(b.d_retain, a.d_retain, kExact, "d_retain");
    expect_close_in_norm(b.d_gain, a.d_gain, kExact, "d_gain");
    if (a.has_residual) expect_close_in_norm(b.d_residual, a.d_residual, kRounded, "d_residual");
    if (a.stripe) expect_close_in_norm(b.d_gate, a.d_gate, kRounded, "d_gate");
    for (std::size_t s = 0; s < a.sources.size(); ++s)
      expect_close_in_norm(b.d_sources[s], a.d_sources[s], 2 * kRounded + rounding(DType::bf16), "d_source");
    if (HasFailure()) return;
  }
}

TEST_F(CudaCorticalColumns, SectionsChangeNoBit) {
  for (int i = 0; i < 10; ++i) {
    Net a = make();
    GpuNet whole = copy_of(a), parts = copy_of(a);
    run_on_gpu(a, whole, 0, a.windows);
    const std::int64_t cut = draw(0, a.windows);
    if (cut > 0) run_on_gpu(a, parts, 0, cut);
    if (cut < a.windows) run_on_gpu(a, parts, cut, a.windows - cut);
    expect_same_values(parts.pre_norm, whole.pre_norm, "pre_norm");
    expect_same_values(parts.carried, whole.carried, "carried");
    expect_same_values(parts.d_weight, whole.d_weight, "d_weight");
    expect_same_values(parts.d_taps, whole.d_taps, "d_taps");
    expect_same_values(parts.d_bias, whole.d_bias, "d_bias");
    expect_same_values(parts.d_retain, whole.d_retain, "d_retain");
    expect_same_values(parts.d_gain, whole.d_gain, "d_gain");
    if (a.has_residual) expect_same_values(parts.d_residual, whole.d_residual, "d_residual");
    if (a.stripe) expect_same_values(parts.d_gate, whole.d_gate, "d_gate");
    for (std::size_t s = 0; s < a.sources.size(); ++s) expect_same_values(parts.d_sources[s], whole.d_sources[s], "d_source");
  }
}

// The tokens one by one, as in a stream.
TEST_F(CudaCorticalColumns, StepsEqualTheCpu) {
  for (const DType type : kFloats) {
    for (int i = 0; i < 12; ++i) {
      Net a = make();
      SCOPED_TRACE(testing::Message() << name_of(type) << " R " << a.roles << " width " << a.width << " slots " << a.slots
                                      << " groups " << a.groups << " tokens " << a.tokens << " stripe " << a.stripe << " residual "
                                      << a.has_residual);
      GpuNet b;
      b.wiring = OnGpu(a.wiring), b.weight = OnGpu(a.weight, type), b.opener = OnGpu(a.opener, type),
      b.residual = OnGpu(a.residual, type);
      b.taps = OnGpu(a.taps, DType::f32), b.bias = OnGpu(a.bias, DType::f32), b.retain = OnGpu(a.retain, DType::f32),
      b.gain = OnGpu(a.gain, DType::f32);
      b.gate_bias = OnGpu(a.gate_bias, DType::f32);
      for (Tensor<double>& x : a.sources) b.sources.emplace_back(x, type);
      Tensor<double> state = noise({1, a.outputs}), before = noise({a.groups, a.columns}), currents({a.groups, 1, a.columns}, 0),
                     pre_norm({1, a.outputs}, 0), out = pre_norm, inverse_rms({1}, 0);
      Tensor<std::int32_t> zero({1}, 0);
      const OnGpu g_state(state, DType::f32), g_before(before, DType::f32), g_pre_norm(gradient_of(type), {1, a.outputs}),
          g_out(type, {1, a.outputs}), g_inverse_rms(DType::f32, {1}), g_done(zero);
      for (std::int64_t t = 0; t < std::min<std::int64_t>(a.tokens, 5); ++t) {
        const auto gate_of = [&](auto& net) {
          return a.stripe ? Gate{net.opener.view().rows(t, 1), net.gate_bias.view(), a.stripe, 0} : Gate{};
        };
        const auto residual_of = [&](auto& net) { return a.has_residual ? net.residual.view().rows(t, 1) : TensorView{}; };
        CpuDevice& cpu = device_of(2);
        synapses_forward(cpu, {all(a.sources, t, 1), a.wiring.view(), a.weight.view(), Taps{a.taps.view(), zero.view(), 1},
                               a.bias.view(), currents.view(), 1, a.scratch.view(), before.view()});
        microcircuit_forward(
            cpu, {currents.view(), a.retain.view(), zero.view(), 1, gate_of(a), residual_of(a), state.view(), pre_norm.view()});
        rms_norm_forward(cpu, {pre_norm.view(), a.gain.view(), out.view(), inverse_rms.view()});
        cortical_columns_step(gpu(), {all(b.sources, t, 1), b.wiring, b.weight, b.taps, b.bias, b.retain, gate_of(b),
                                      residual_of(b), g_state, g_before, b.gain, g_pre_norm, g_done, g_out, g_inverse_rms});
        gpu().synchronize();
        expect_close_in_norm(g_state, state, 1e-5, "state");
        expect_close_in_norm(g_before, before, 1e-5, "before");
        expect_close_in_norm(g_pre_norm, pre_norm, 1e-5 + rounding(gradient_of(type)), "pre_norm");
        expect_close_in_norm(g_out, out, 1e-5 + 2 * rounding(type), "out");
        expect_close_in_norm(g_inverse_rms, inverse_rms, 1e-5 + rounding(gradient_of(type)), "inverse_rms");
        expect_same_values(g_done, zero, "done");
        if (HasFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace neurogen
