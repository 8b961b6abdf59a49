#include "kernels/brain/cortical_columns.h"

#include "kernels/rms_norm.h"
#include "tests/kernels/operations/brain.h"

namespace neurogen {
namespace {

constexpr Bytes kOfSmallerCards = 99 * 1024;  // shared memory at compute capability 8.6 and 8.9

// A module's parameters, as both entries declare them.
struct Module {
  std::int64_t roles, width, slots, groups, stripe, columns = roles * kGroup, outputs = groups * kGroup, fan_in = slots * width,
                                                    openers = stripe ? outputs / stripe : 0;
  Wiring w;
  Id weight, taps, bias, retain, gain, opener, gate_bias, residual;

  Module(Case& c, const Shape& s, std::int64_t tokens, std::int64_t window, bool has_residual, std::ptrdiff_t widths)
      : roles(s[0]), width(s[1]), slots(s[2]), groups(s[3]), stripe(s[4]) {
    w = wire(c, groups, slots, width, tokens, window, {s.begin() + widths, s.end()});
    weight = c.input("weight", {groups, fan_in, columns}, noise(0.2));
    taps = c.input("taps", {2 * roles, outputs}, noise(), Stored::single),
    bias = c.input("bias", {roles, outputs}, noise(), Stored::single);
    retain = c.input("retain", {outputs}, noise(1, 2), Stored::single),
    gain = c.input("gain", {outputs}, noise(0.3, 1), Stored::single);
    opener = c.input("opener", {openers ? tokens : 0, openers}),
    gate_bias = c.input("gate_bias", {openers}, noise(0.5, 1), Stored::single);
    residual = c.input("residual", {has_residual ? tokens : 0, outputs});
  }
  Gate gate(const Operands& at, const Part& p) const {
    return stripe ? Gate{p.rows(at[opener]), at[gate_bias], stripe, 0} : Gate{};
  }
};

// [R, width of a block, slots, groups, stripe, T, windows, residual (2: its gradient is written, not added to), parts, bits of the
// sources whose gradients are, the sources' widths ...]. A CPU runs synapses and microcircuit.
void cortical_columns_case(Case& c, const Shape& s) {
  const std::int64_t window = s[5], tokens = window * s[6], parts = s[8];
  const bool residual_stored = s[7] == 2;
  const auto stored = static_cast<unsigned>(s[9]);
  Module m(c, s, tokens, window, s[7] != 0, 10);
  wire_back(c, m.w, stored);
  const auto single = Stored::single;
  const Shape wide{tokens, m.outputs}, weights{m.groups, m.fan_in, m.columns}, tapped{2 * m.roles, m.outputs},
      biases{m.roles, m.outputs};
  const auto d_out = c.input("d_out", wide), inverse = c.input("inverse_rms", {tokens}, noise(0.1, 1), single),
             dot = c.input("dot", {tokens}, noise(0.1), single);
  const auto pre_norm = c.output("pre_norm", wide, Stored::gradient),
             d_gate = c.output("d_gate", {m.stripe ? tokens : 0, m.outputs}, Stored::gradient);
  const Shape residuals{s[7] ? tokens : 0, m.outputs};
  const auto d_residual = residual_stored ? c.output("d_residual", residuals, Stored::gradient)
                                          : c.updated("d_residual", residuals, noise(), Stored::gradient);
  // The totals, and on a GPU their parts.
  std::vector<Id> totals, shares;
  for (const auto& [name, shape] : {std::pair{"d_weight", weights},
                                    {"d_taps", tapped},
                                    {"d_bias", biases},
                                    {"d_retain", {m.outputs}},
                                    {"d_gain", {m.outputs}}}) {
    totals.push_back(c.updated(name, shape, noise(), single));
    Shape all = shape;
    all[0] *= parts;
    shares.push_back(c.scratch(std::string(name) + " parts", all, single));
  }
  c[totals[0]].roundings = c[totals[1]].roundings = 2;  // gradients of currents, then of sums, or sums
  c.tolerance = 1e-5;
  const auto carried = c.scratch("carried", {s[6] * carries(window), m.outputs}, single),
             d_selected = c.scratch("d_selected", {m.groups * m.slots, tokens, m.width});
  const auto currents = c.scratch("currents", {m.groups, tokens, m.columns}, single),
             d_currents = c.scratch("d_currents", {m.groups, tokens, m.columns}),
             hidden = c.scratch("hidden", {m.groups, tokens, kGroup}, single),
             scratch = c.scratch("scratch", {3, synapses_scratch(m.fan_in + m.columns, window)});

  const auto readers = [=](auto& device, const Operands& at) {
    synapses_readers(device, {at[m.w.wiring], at[m.w.reader_start], at[m.w.readers]});
  };
  const auto of = [=](const Operands& at, const Part& p) {
    const std::int64_t each = carries(window);
    return CorticalColumns{m.w.of(at, m.w.sources, p.token, p.tokens),
                           at[m.w.wiring],
                           at[m.weight],
                           at[m.taps],
                           at[m.bias],
                           at[m.retain],
                           p.rows(at[m.w.first]),
                           window,
                           m.gate(at, p),
                           p.rows(at[m.residual]),
                           at[carried].rows(p.token / window * each, p.tokens / window * each)};
  };
  const auto forward = [=](auto& device, const Operands& at, const Part& p) {
    if constexpr (!kOnCpu<std::remove_reference_t<decltype(device)>>) {
      cortical_columns_forward(device, {of(at, p), p.rows(at[pre_norm])});
    } else {
      const TensorView u = p.packed(at[currents]);
      synapses_forward(device, {m.w.of(at, m.w.sources, p.token, p.tokens), at[m.w.wiring], at[m.weight],
                                Taps{at[m.taps], p.rows(at[m.w.first]), window}, at[m.bias], u, window, at[scratch]});
      microcircuit_forward(
          device,
          {u, at[m.retain], p.rows(at[m.w.first]), window, m.gate(at, p), p.rows(at[m.residual]), {}, p.rows(at[pre_norm])});
    }
  };
  const auto begin = [=](auto& device, const Operands& at) {
    for (std::size_t i = 0; i < totals.size(); ++i) {
      clear(device, at[shares[i]]);
      copy(device, at[totals[i]], at[shares[i]].rows(0, at[totals[i]][0]));
    }
  };
  const auto selected = [=](const Operands& at, const Part& p) {
    return make_view(at[d_selected].data, at[d_selected].dtype, {m.groups * m.slots, p.tokens, m.width});
  };
  const auto backward = [=](auto& device, const Operands& at, const Part& p) {
    if constexpr (!kOnCpu<std::remove_reference_t<decltype(device)>>) {
      cortical_columns_backward(
          device, {of(at, p), p.rows(at[d_out]), p.rows(at[inverse]), p.rows(at[dot]), at[m.gain], selected(at, p), parts,
                   p.token / window, at[shares[0]], at[shares[1]], at[shares[2]], at[shares[3]], at[shares[4]],
                   p.rows(at[d_residual]), p.rows(at[d_gate]), residual_stored});
    } else {
      const auto share = [&](std::size_t i) { return at[shares[i]].rows(0, at[totals[i]][0]); };
      const TensorView u = p.packed(at[currents]), d_u = p.packed(at[d_currents]);
      forward(device, at, p);
      if (residual_stored) clear(device, p.rows(at[d_residual]));
      microcircuit_backward(device, {u, at[m.retain], p.rows(at[m.w.first]), window, m.gate(at, p), p.rows(at[m.residual]),
                                     p.rows(at[d_out]), p.rows(at[inverse]), p.rows(at[dot]), at[m.gain], p.packed(at[hidden]), d_u,
                                     share(3), share(4), p.rows(at[d_residual]), p.rows(at[d_gate])});
      synapses_backward_weights(
          device, {m.w.of(at, m.w.sources, p.token, p.tokens), at[m.w.wiring], at[m.weight],
                   Taps{at[m.taps], p.rows(at[m.w.first]), window}, d_u, share(0), share(1), share(2), window, at[scratch]});
    }
  };
  const auto to_sources = [=](auto& device, const Operands& at, const Part& p) {
    const Sources d_sources = m.w.of(at, m.w.d_sources, p.token, p.tokens);
    if constexpr (!kOnCpu<std::remove_reference_t<decltype(device)>>) {
      cortical_columns_sources(device, {selected(at, p), at[m.w.reader_start], at[m.w.readers], d_sources, stored});
    } else {
      for (int i = 0; i < d_sources.count; ++i)
        if (stored >> i & 1) clear(device, d_sources.outputs[static_cast<std::size_t>(i)]);
      synapses_backward_sources(device, {p.packed(at[d_currents]), at[m.weight], Taps{at[m.taps], p.rows(at[m.w.first]), window},
                                         at[m.w.reader_start], at[m.w.readers], d_sources, window, at[scratch]});
    }
  };
  const auto sum = [=](auto& device, const Operands& at) {
    Several<CorticalColumnsSum> sums;
    for (std::size_t i = 0; i < totals.size(); ++i) {
      if constexpr (!kOnCpu<std::remove_reference_t<decltype(device)>>) sums.add({at[shares[i]], at[totals[i]]});
      else copy(device, at[shares[i]].rows(0, at[totals[i]][0]), at[totals[i]]);
    }
    if constexpr (!kOnCpu<std::remove_reference_t<decltype(device)>>) cortical_columns_sum(device, sums);
  };
  const Part whole{0, m.groups, 0, tokens};
  const double flops = 2 * static_cast<double>(tokens * m.groups * m.fan_in * m.columns);
  c.run("synapses_readers", readers);
  c.run("cortical_columns_forward", [=](auto& device, const Operands& at) { forward(device, at, whole); }, {flops});
  c.run("begin", begin);
  c.run("cortical_columns_backward", [=](auto& device, const Operands& at) { backward(device, at, whole); }, {3 * flops});
  c.run("cortical_columns_sources", [=](auto& device, const Operands& at) { to_sources(device, at, whole); });
  c.run("cortical_columns_sum", sum);
  c.also("in sections", [=](auto& device, const Operands& at) {
    readers(device, at);
    begin(device, at);
    for (const Part& p : parts_of(m.groups, m.groups, tokens, window)) {
      forward(device, at, p);
      backward(device, at, p);
      to_sources(device, at, p);
    }
    sum(device, at);
  });
}

const Listed cortical_columns_entry{{
    .name = "cortical_columns",
    .shapes = {{5, 32, 3, 2, 4, 40, 3, 1, 2, 1, 64, 96},
               {2, 16, 5, 3, 0, 33, 2, 0, 1, 0, 32},
               {3, 32, 1, 8, 32, 7, 1, 2, 3, 3, 32, 64}},
    .gpu_shapes = {{4, 32, 4, 5, 0, 300, 2, 1, 2, 5, 160, 96, 32},
                   {5, 16, 8, 2, 4, 64, 5, 2, 1, 2, 64, 32, 64, 32, 96},
                   {2, 32, 2, 4, 1, 2, 4, 0, 3, 0, 64},
                   {3, 32, 3, 1, 2, 129, 3, 1, 1, 0, 96, 32},
                   {5, 32, 4, 4, 2, 256, 2, 0, 2, 1, 128, 128},
                   {4, 16, 1, 2, 0, 1, 3, 1, 1, 0, 32}},
    .timed = {{4, 32, 2, 32, 0, 256, 32, 0, 8, 0, 1024},
              {5, 32, 3, 256, 0, 256, 32, 0, 1, 0, 1024, 1024},
              {5, 32, 3, 64, 0, 256, 32, 0, 4, 0, 8192, 4096, 1024},
              {5, 32, 4, 256, 4, 256, 32, 1, 1, 0, 8192, 4096},
              {5, 32, 3, 256, 0, 256, 32, 1, 1, 0, 8192, 8192, 4096, 1024, 1024}},
    .body = cortical_columns_case,
    .types = {DType::bf16},
    .shared_memory = {UINT64_MAX, kOfSmallerCards, 2 * kOfSmallerCards},
}};

// A token: [R, width of a block, slots, groups, stripe, residual, the sources' widths ...].
void cortical_columns_step_case(Case& c, const Shape& s) {
  const Module m(c, s, 1, 1, s[5] != 0, 6);
  const auto single = Stored::single;
  const auto state = c.updated("state", {1, m.outputs}, noise(), single),
             before = c.updated("before", {m.groups, m.columns}, noise(), single);
  const auto done = c.updated("done", {1}, constant(0), Stored::i32);
  const auto pre_norm = c.output("pre_norm", {1, m.outputs}, Stored::gradient), out = c.output("out", {1, m.outputs}),
             inverse = c.output("inverse_rms", {1}, single);
  c[out].roundings = c[inverse].roundings = 1;
  c.tolerance = 1e-5;
  const auto currents = c.scratch("currents", {m.groups, 1, m.columns}, single),
             scratch = c.scratch("scratch", {3, synapses_scratch(m.fan_in + m.columns, 1)});
  const Part whole{0, m.groups, 0, 1};
  c.run("cortical_columns_step", [=](auto& device, const Operands& at) {
    const Sources sources = m.w.of(at, m.w.sources, 0, 1);
    if constexpr (!kOnCpu<std::remove_reference_t<decltype(device)>>) {
      cortical_columns_step(
          device, {sources, at[m.w.wiring], at[m.weight], at[m.taps], at[m.bias], at[m.retain], m.gate(at, whole), at[m.residual],
                   at[state], at[before], at[m.gain], at[pre_norm], at[done], at[out], at[inverse]});
    } else {
      synapses_forward(device, {sources, at[m.w.wiring], at[m.weight], Taps{at[m.taps], at[m.w.first], 1}, at[m.bias], at[currents],
                                1, at[scratch], at[before]});
      microcircuit_forward(
          device, {at[currents], at[m.retain], at[m.w.first], 1, m.gate(at, whole), at[m.residual], at[state], at[pre_norm]});
      rms_norm_forward(device, {at[pre_norm], at[m.gain], at[out], at[inverse]});
    }
  });
}

const Listed cortical_columns_step_entry{{
    .name = "cortical_columns_step",
    .shapes = {{5, 32, 3, 2, 4, 1, 64, 96},
               {2, 16, 5, 3, 0, 0, 32},
               {3, 32, 1, 8, 32, 1, 32, 64},
               {4, 16, 8, 5, 0, 1, 32, 32, 64, 160, 32}},
    .timed = {{4, 32, 2, 32, 0, 0, 1024}, {5, 32, 4, 256, 4, 1, 8192, 4096}},
    .body = cortical_columns_step_case,
}};

}  // namespace
}  // namespace neurogen
