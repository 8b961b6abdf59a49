#include "kernels/activation.h"

#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

struct Hidden {
  double out, d_up, d_gate;
};

Hidden hidden(Activation activation, double u, double g) {
  if (activation == Activation::relu2) return {std::pow(std::max(0.0, u), 2), 2 * std::max(0.0, u), 0};
  if (activation == Activation::silu_gated) {
    const double share = 1 / (1 + std::exp(-g)), silu = g * share;
    return {silu * u, silu, (share + silu * (1 - share)) * u};
  }
  const double root = std::sqrt(2 / std::acos(-1.0)), t = std::tanh(root * (u + 0.044715 * u * u * u));
  return {u / 2 * (1 + t), (1 + t) / 2 + u / 2 * (1 - t * t) * root * (1 + 3 * 0.044715 * u * u), 0};
}

// [N, I, activation, biases, in place]
std::vector<Shape> variants(const std::vector<Shape>& sizes) {
  std::vector<Shape> all;
  for (const Shape& size : sizes)
    for (std::int64_t i = 0; i < 6; ++i) all.push_back({size[0], size[1], i / 2, i % 2, size[2]});
  return all;
}

const Listed activation_{{
    .name = "activation",
    .shapes = variants({{1, 8, 0}, {17, 24, 0}, {17, 24, 1}, {300, 40, 0}, {17, 520, 0}}),
    .cpu_shapes = variants({{41, 35, 0}, {41, 35, 1}}),
    .gpu_shapes = variants({{300, 2048, 1}, {700, 264, 0}}),
    .timed = {{8192, 2048, 0, 0, 0}, {8192, 2048, 1, 0, 0}, {8192, 2048, 2, 0, 0}, {8192, 3072, 0, 1, 0}},
    .body =
        [](Case& c, const Shape& s) {
          const std::int64_t rows = s[0], width = s[1];
          const auto activation = static_cast<Activation>(s[2]);
          const bool gated = activation == Activation::silu_gated, biased = s[3] != 0, in_place = s[4] != 0;
          const Shape matrix{rows, width}, gates = shape_if(gated, matrix), biases = shape_if(biased, {width}),
                                           gate_biases = shape_if(gated && biased, {width});
          const Stored single = Stored::single;
          const auto up = c.updated("up", matrix, noise(2), Stored::tested, Use::replaced),
                     gate = c.updated("gate", gates, noise(2), Stored::tested, Use::replaced);
          const auto up_bias = c.input("up_bias", biases, noise(), single),
                     gate_bias = c.input("gate_bias", gate_biases, noise(), single);
          const auto out = in_place ? up : c.output("out", matrix);
          c[up].after = 8;
          c.run("activation_forward", [=](auto& device, const Operands& at) {
            activation_forward(device, {activation, at[up], at[gate], at[up_bias], at[gate_bias], at[out]});
          });
          const auto of = [=](const Values& v, std::int64_t i) {
            return hidden(activation, v[up][i] + (up_bias ? v[up_bias][i % width] : 0),
                          (gate ? v[gate][i] : 0) + (gate_bias ? v[gate_bias][i % width] : 0));
          };
          if (in_place) {
            c.formula = [=](Values& v) {
              for (std::int64_t i = 0; i < rows * width; ++i) v[up][i] = of(v, i).out;
            };
            return;
          }
          const auto d_out = c.updated("d_out", matrix, noise(), Stored::tested, Use::replaced);
          const auto d_up_bias = c.output("d_up_bias", biases, single), d_gate_bias = c.output("d_gate_bias", gate_biases, single),
                     sums = c.scratch("sums", shape_if(biased, {row_parts(rows), 2 * width}), single);
          c[d_out].before = 8;
          // Sums of gradients as memory holds them.
          for (const Id id : {d_up_bias, d_gate_bias})
            if (id) c[id].roundings = 1;
          c.loss_is(out, d_out);
          c.run("activation_backward", [=](auto& device, const Operands& at) {
            activation_backward(device, {activation, at[up], at[gate], at[up_bias], at[gate_bias], at[d_out], at[d_up_bias],
                                         at[d_gate_bias], at[sums]});
          });
          c.formula = [=](Values& v) {
            for (const Id id : {d_up_bias, d_gate_bias})
              if (id) v[id] = Tensor<double>({width}, 0);
            for (std::int64_t i = 0; i < rows * width; ++i) {
              const Hidden h = of(v, i);
              const double d = v[d_out][i];
              v[out][i] = v[up][i] = h.out, v[d_out][i] = d * h.d_up;
              if (gate) v[gate][i] = d * h.d_gate;
              if (d_up_bias) v[d_up_bias][i % width] += v[d_out][i];
              if (d_gate_bias) v[d_gate_bias][i % width] += v[gate][i];
            }
          };
          c.gradient(up, d_out), c.gradient(gate, gate), c.gradient(up_bias, d_up_bias), c.gradient(gate_bias, d_gate_bias);
        },
}};

}  // namespace
}  // namespace neurogen
