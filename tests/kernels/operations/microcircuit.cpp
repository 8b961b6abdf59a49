#include "kernels/brain/microcircuit.h"

#include "kernels/brain/synapses.h"
#include "kernels/rms_norm.h"
#include "tests/kernels/operations/brain.h"

namespace neurogen {
namespace {

// [R, stripe, residual, state, groups, T, windows]; stripe 0: no gate. With the norm that follows.
void microcircuit_case(Case& c, const Shape& s) {
  const std::int64_t roles = s[0], stripe = s[1], groups = s[4], window = s[5], windows = s[6], tokens = window * windows,
                     outputs = groups * kGroup, openers = stripe ? outputs / stripe : 0, columns = roles * kGroup;
  const Shape wide{tokens, outputs}, narrow{openers ? tokens : 0, openers}, residuals{s[2] ? tokens : 0, outputs};
  const auto single = Stored::single, gradient = Stored::gradient;
  const auto first = c.input("first", {tokens}, documents_in(window), Stored::i32);
  const auto currents = c.input("currents", {groups, tokens, columns}, noise(), single);
  const auto retain = c.input("retain", {outputs}, noise(1, 2), single), gain = c.input("gain", {outputs}, noise(0.3, 1), single);
  const auto opener = c.input("opener", narrow), gate_bias = c.input("gate_bias", {openers}, noise(0.5, 1), single);
  const auto residual = c.input("residual", residuals), d_out = c.input("d_out", wide);
  const auto state = c.updated("state", {s[3] ? windows : 0, outputs}, noise(), single);
  const auto pre_norm = c.output("pre_norm", wide, gradient), out = c.output("out", wide);
  const auto inverse = c.output("inverse_rms", {tokens}, single), dot = c.output("dot", {tokens}, single);
  const auto d_currents = c.output("d_currents", {groups, tokens, columns});
  const auto d_retain = c.updated("d_retain", {outputs}, noise(), single), d_gain = c.updated("d_gain", {outputs}, noise(), single);
  const auto d_residual = c.updated("d_residual", residuals, noise(), gradient);
  const auto d_gate = c.output("d_gate", {openers ? tokens : 0, outputs}, gradient),
             d_opener = c.output("d_opener", narrow, gradient);
  const auto d_gate_bias = c.updated("d_gate_bias", {openers}, noise(), single);
  const auto hidden = c.scratch("hidden", {groups, tokens, kGroup}, single),
             sums = c.scratch("sums", {openers ? windows : 0, openers}, single);
  const auto section = c.scratch("section", {groups, tokens, columns}, single),
             d_section = c.scratch("d_section", {groups, tokens, columns});
  c.tolerance = 5e-6;

  const auto gate = [=](const Operands& at, const Part& p) {
    return stripe ? Gate{p.rows(at[opener]), at[gate_bias], stripe, p.group * kGroup} : Gate{};
  };
  const auto forward = [=](auto& device, const Operands& at, const Part& p, const TensorView& u) {
    microcircuit_forward(
        device, {u, p.range(at[retain]), p.rows(at[first]), window, gate(at, p), p.of(at[residual]),
                 at[state] ? p.columns(at[state].rows(p.token / window, p.tokens / window)) : TensorView{}, p.of(at[pre_norm])});
  };
  const auto norm = [=](auto& device, const Operands& at) {
    rms_norm_forward(device, {at[pre_norm], at[gain], at[out], at[inverse]});
  };
  const auto norm_dot = [=](auto& device, const Operands& at) { rms_norm_backward_dot(device, {at[d_out], at[out], at[dot]}); };
  const auto backward = [=](auto& device, const Operands& at, const Part& p, const TensorView& u, const TensorView& d_u) {
    microcircuit_backward(device, {u, p.range(at[retain]), p.rows(at[first]), window, gate(at, p), p.of(at[residual]),
                                   p.of(at[d_out]), p.rows(at[inverse]), p.rows(at[dot]), p.range(at[gain]), p.packed(at[hidden]),
                                   d_u, p.range(at[d_retain]), p.range(at[d_gain]), p.of(at[d_residual]), p.of(at[d_gate])});
  };
  const auto gates = [=](auto& device, const Operands& at, const Part& p) {
    if (stripe)
      gate_backward(device, {p.rows(at[d_gate]), gate(at, p), window, p.rows(at[d_opener]), at[d_gate_bias],
                             at[sums].rows(0, p.tokens / window)});
  };
  const Part all{0, groups, 0, tokens};
  c.run("microcircuit_forward", [=](auto& device, const Operands& at) { forward(device, at, all, at[currents]); });
  c.run("norm", norm);
  c.run("norm_dot", norm_dot);
  c.loss_is(out, d_out);
  c.run("microcircuit_backward",
        [=](auto& device, const Operands& at) { backward(device, at, all, at[currents], at[d_currents]); });
  c.run("gate_backward", [=](auto& device, const Operands& at) { gates(device, at, all); });
  c.also("in ranges and sections", [=](auto& device, const Operands& at) {
    const auto parts = parts_of(groups, 1, tokens, window);
    for (const Part& p : parts) forward(device, at, p, p.pack(device, at[currents], at[section]));
    norm(device, at);
    norm_dot(device, at);
    for (const Part& p : parts) {
      backward(device, at, p, p.pack(device, at[currents], at[section]), p.packed(at[d_section]));
      p.unpack(device, at[d_section], at[d_currents]);
    }
    for (const Part& p : parts_of(groups, groups, tokens, window)) gates(device, at, p);
  });

  c.formula = [=](Values& v) {
    for (std::int64_t o = 0; o < outputs; ++o) {
      double h = 0;
      for (std::int64_t n = 0; n < tokens; ++n) {
        const auto u = [&](std::int64_t r) { return v[currents][(o / 32 * tokens + n) * columns + r * 32 + o % 32]; };
        if (n % window == 0) h = state ? v[state][n / window * outputs + o] : 0;
        else if (v[first][n] == static_cast<double>(n % window)) h = 0;
        double f = logistic(u(1) + v[retain][o]), i = 1 - f;
        if (stripe) {
          i *= logistic(v[opener][n * openers + o / stripe] + v[gate_bias][o / stripe]);
          f = 1 - i;
        }
        h = f * h + i * u(0);
        double y = h;
        if (roles >= 3) y *= u(2) * logistic(u(2));
        if (roles == 4) y += u(3);
        if (roles == 5) y += u(3) * logistic(u(3)) * u(4);
        v[pre_norm][n * outputs + o] = y + (residual ? v[residual][n * outputs + o] : 0);
        if (state && n % window == window - 1) v[state][n / window * outputs + o] = h;
      }
    }
  };
  c.formula_gives = {pre_norm};
  if (state) {
    c.formula_gives.push_back(state);
    return;  // gradients are those of windows that begin with nothing
  }
  c.gradient(currents, d_currents), c.gradient(retain, d_retain), c.gradient(gain, d_gain);
  c.gradient(residual, d_residual), c.gradient(opener, d_opener), c.gradient(gate_bias, d_gate_bias);
}

const Listed microcircuit_entry{{
    .name = "microcircuit",
    .shapes = {{2, 0, 0, 0, 2, 11, 3},
               {3, 0, 1, 0, 2, 11, 3},
               {4, 0, 0, 0, 2, 11, 3},
               {5, 0, 1, 0, 2, 11, 3},
               {2, 1, 1, 0, 2, 11, 3},
               {3, 2, 0, 0, 2, 11, 3},
               {4, 4, 1, 0, 2, 11, 3},
               {5, 4, 1, 0, 2, 11, 3},
               {5, 32, 0, 0, 2, 11, 3},
               {5, 4, 1, 1, 1, 1, 3},
               {3, 0, 0, 1, 2, 7, 2}},
    .gpu_shapes = {{2, 32, 1, 1, 4, 300, 2}, {3, 0, 1, 0, 1, 257, 6}, {4, 1, 0, 1, 3, 64, 5}, {5, 2, 1, 0, 4, 190, 3}},
    .timed = {{4, 0, 0, 0, 32, 256, 32}, {5, 0, 0, 0, 256, 256, 32}, {5, 4, 1, 0, 256, 256, 32}},
    .body = microcircuit_case,
}};

}  // namespace
}  // namespace neurogen
