#include "kernels/rms_norm.h"

#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// [N, O, variant]: 0, 1: d_out of the outputs' type, or f32; 2: in place.
void rms_norm_case(Case& c, const Shape& s) {
  const std::int64_t tokens = s[0], width = s[1];
  const bool in_place = s[2] == 2;
  const auto x = in_place ? c.updated("x", {tokens, width}, noise(2), Stored::gradient, Use::replaced)
                          : c.input("x", {tokens, width}, noise(2), Stored::gradient);
  const auto gain = c.input("gain", {width}, noise(0.3, 1), Stored::single);
  const auto d_out = c.input("d_out", {tokens, width}, noise(), s[2] == 1 ? Stored::single : Stored::tested);
  const auto out = in_place ? x : c.output("out", {tokens, width});
  const auto inverse = c.output("inverse_rms", {tokens}, Stored::single), dot = c.output("dot", {tokens}, Stored::single);
  c.tolerance = 5e-6;
  c.run("rms_norm_forward", [=](auto& device, const Operands& at) {
    rms_norm_forward(device, {at[x], at[gain], at[out], at[inverse]});
  });
  c.loss_is(out, d_out);
  c.run("rms_norm_backward_dot", [=](auto& device, const Operands& at) {
    rms_norm_backward_dot(device, {at[d_out], at[out], at[dot]});
  });
  c.formula = [=](Values& v) {
    for (std::int64_t n = 0; n < tokens; ++n) {
      double squares = 0;
      for (std::int64_t o = 0; o < width; ++o) squares += v[x][n * width + o] * v[x][n * width + o];
      v[inverse][n] = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-5), v[dot][n] = 0;
      for (std::int64_t o = 0; o < width; ++o) {
        v[out][n * width + o] = v[x][n * width + o] * v[inverse][n] * v[gain][o];
        v[dot][n] += v[d_out][n * width + o] * v[out][n * width + o] / static_cast<double>(width);
      }
    }
  };
  // The second half of the backward pass, as done by the operations before the norm.
  c.gradient(x, [=](const Values& v, const Values& after) {
    Tensor<double> d_x = v[x];
    for (std::int64_t i = 0; i < tokens * width; ++i) {
      const double scale = after[inverse][i / width];
      d_x[i] = scale * (v[gain][i % width] * v[d_out][i] - v[x][i] * scale * after[dot][i / width]);
    }
    return d_x;
  });
  c.gradient(gain, [=](const Values& v, const Values& after) {
    Tensor<double> d_gain({width}, 0);
    for (std::int64_t i = 0; i < tokens * width; ++i) d_gain[i % width] += v[d_out][i] * v[x][i] * after[inverse][i / width];
    return d_gain;
  });
}

const Listed rms_norm_entry{{
    .name = "rms_norm",
    .shapes = {{1, 8, 0}, {21, 96, 0}, {21, 96, 1}},
    .cpu_shapes = {{21, 96, 2}, {5, 37, 0}},
    .gpu_shapes = {{33, 8192, 0}, {5, 9104, 1}},
    .timed = {{8192, 1024, 0}, {8192, 8192, 0}},
    .body = rms_norm_case,
}};

}  // namespace
}  // namespace neurogen
