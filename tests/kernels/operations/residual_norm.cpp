#include "kernels/residual_norm.h"

#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// [N, D, layer norm, branch (2: with a bias), bias, d_y stored, variant]; variant 1: y in the place of x and the output once more
// in that of its gradient; 2: no output once more, and its gradient as products of other types leave it.
const Listed residual_norm{{
    .name = "residual_norm",
    .shapes = {{1, 8, 0, 0, 0, 1, 0},
               {1, 8, 1, 2, 1, 0, 0},
               {17, 8, 1, 2, 1, 1, 0},
               {17, 8, 0, 1, 0, 0, 0},
               {17, 8, 0, 0, 1, 0, 2},
               {33, 24, 1, 2, 0, 0, 1},
               {40, 40, 0, 2, 1, 0, 0},
               {17, 512, 0, 1, 0, 0, 1},
               {17, 520, 1, 2, 1, 0, 0},
               {300, 520, 0, 1, 0, 0, 2},
               {300, 40, 1, 1, 1, 1, 1},
               {17, 1024, 1, 0, 1, 1, 2},
               {17, 2048, 0, 2, 0, 0, 0},
               {17, 4104, 1, 2, 1, 0, 1}},
    .cpu_shapes = {{1, 3, 0, 0, 0, 1, 0}, {53, 37, 1, 2, 1, 0, 0}},
    .gpu_shapes = {{300, 512, 1, 2, 1, 0, 0}, {300, 4104, 0, 1, 0, 0, 1}, {5000, 1032, 1, 2, 1, 0, 2}, {9, 8192, 1, 2, 1, 0, 0}},
    .timed = {{8192, 512, 0, 1, 0, 0, 1}, {8192, 768, 1, 2, 1, 0, 1}},
    .body =
        [](Case& c, const Shape& s) {
          const std::int64_t rows = s[0], width = s[1];
          const bool layer = s[2] != 0, stored = s[5] != 0, in_place = s[6] == 1;
          const Norm norm = layer ? Norm::layer : Norm::rms;
          const Shape matrix{rows, width}, vector{width};
          const Stored stream = Stored::gradient, single = Stored::single;
          const bool has_branch = s[3] > 0, summed_in_place = has_branch && in_place;
          const auto x = summed_in_place ? c.updated("x", matrix, noise(1, 0.3), stream, Use::replaced)
                                         : c.input("x", matrix, noise(1, 0.3), stream);
          const auto branch = c.input("branch", shape_if(has_branch, matrix)),
                     branch_bias = c.input("branch_bias", shape_if(s[3] == 2, vector), noise(), single),
                     gain = c.input("gain", vector, noise(0.3, 1), single),
                     bias = c.input("bias", shape_if(s[4] != 0, vector), noise(), single);
          const auto y = has_branch && !in_place ? c.output("y", matrix, stream) : x;
          const auto out = c.output("out", matrix), mean = c.output("mean", shape_if(layer, {rows}), single),
                     inverse = c.output("inverse", {rows}, single);
          const auto d_out = in_place ? c.updated("d_out", matrix, noise(), Stored::tested, Use::replaced)
                                      : c.input("d_out", matrix, noise(), s[6] == 2 ? stream : Stored::tested);
          const auto d_y = stored ? c.output("d_y", matrix, stream) : c.updated("d_y", matrix, noise(), stream);
          const auto d_branch = c.output("d_branch", shape_if(has_branch, matrix)),
                     normed = in_place ? d_out : c.output("normed", shape_if(s[6] == 0, matrix));
          const auto d_gain = c.output("d_gain", vector, single), d_bias = c.output("d_bias", shape_if(s[4] != 0, vector), single),
                     d_branch_bias = c.output("d_branch_bias", shape_if(s[3] == 2, vector), single),
                     sums = c.scratch("sums", {row_parts(rows), 3 * width}, single);
          // A sum is normed as memory holds it.
          for (const Id id : {out, mean, inverse})
            if (id && has_branch) c[id].roundings = 1;
          c.run("residual_norm_forward", [=](auto& device, const Operands& at) {
            residual_norm_forward(device, {norm, 1e-3, at[x], at[branch], at[branch_bias], has_branch ? at[y] : TensorView{},
                                           at[gain], at[bias], at[out], at[mean], at[inverse]});
          });
          c.loss_is(out, d_out);
          c.run("residual_norm_backward", [=](auto& device, const Operands& at) {
            residual_norm_backward(device, {norm, at[y], at[mean], at[inverse], at[gain], at[bias], at[d_out], at[d_y], stored,
                                            at[d_branch], at[normed], at[d_gain], at[d_bias], at[d_branch_bias], at[sums]});
          });
          c.formula = [=](Values& v) {
            for (const Id id : {d_gain, d_bias, d_branch_bias})
              if (id) v[id] = Tensor<double>(vector, 0);
            const auto average = [&](auto&& of) {
              double sum = 0;
              for (std::int64_t i = 0; i < width; ++i) sum += of(i);
              return sum / static_cast<double>(width);
            };
            for (std::int64_t n = 0; n < rows; ++n) {
              const std::int64_t row = n * width;
              if (has_branch)
                for (std::int64_t i = 0; i < width; ++i)
                  v[y][row + i] = v[x][row + i] + v[branch][row + i] + (branch_bias ? v[branch_bias][i] : 0);
              const double level = layer ? average([&](std::int64_t i) { return v[y][row + i]; }) : 0;
              const double square = average([&](std::int64_t i) { return std::pow(v[y][row + i] - level, 2); });
              const double scale = v[inverse][n] = 1 / std::sqrt(square + 1e-3);
              if (layer) v[mean][n] = level;
              const auto hat = [&](std::int64_t i) { return (v[y][row + i] - level) * scale; };
              const auto g = [&](std::int64_t i) { return v[d_out][row + i] * v[gain][i]; };
              const double along = average([&](std::int64_t i) { return hat(i) * g(i); }), d_level = layer ? average(g) : 0;
              for (std::int64_t i = 0; i < width; ++i) {
                const double d = scale * (g(i) - hat(i) * along - d_level), of_out = v[d_out][row + i];
                v[d_y][row + i] = stored ? d : v[d_y][row + i] + d;
                v[out][row + i] = hat(i) * v[gain][i] + (bias ? v[bias][i] : 0);
                v[d_gain][i] += of_out * hat(i);
                if (d_bias) v[d_bias][i] += of_out;
                if (d_branch_bias) v[d_branch_bias][i] += v[d_y][row + i];
                if (d_branch) v[d_branch][row + i] = v[d_y][row + i];
              }
              if (normed) std::copy_n(&v[out][row], width, &v[normed][row]);
            }
          };
          c.gradient(x, d_y), c.gradient(branch, d_y), c.gradient(gain, d_gain), c.gradient(bias, d_bias);
          // Has what reached the sum by other ways, too.
          c.gradient(branch_bias, [=](const Values& before, const Values& after) {
            Tensor<double> d = after[d_branch_bias];
            for (std::int64_t i = 0; !stored && i < rows * width; ++i) d[i % width] -= before[d_y][i];
            return d;
          });
        },
}};

}  // namespace
}  // namespace neurogen
