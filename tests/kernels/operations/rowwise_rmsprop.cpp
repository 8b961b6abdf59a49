#include "kernels/rowwise_rmsprop.h"

#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// [rows, E, most touched rows, touched rows, overflow]; no touched row at most: the gradient is of all rows. Some touched rows have
// no gradient, or a tiny one, or no past.
void rowwise_rmsprop_case(Case& c, const Shape& s) {
  const std::int64_t table_rows = s[0], width = s[1], most = s[2] > 0 ? s[2] : table_rows;
  StepControl now{.learning_rate = 99, .table_learning_rate = 0.25f, .overflow = static_cast<std::int32_t>(s[4])};
  const auto control = c.control(now), norm = c.input("norm", {2}, constant(0.5), Stored::single);
  const auto spread = [=](Tensor<double>& x, Random&) {
    for (std::int64_t i = 0; i < most; ++i) x[i] = static_cast<double>(i * table_rows / most);
  };
  const auto rows = c.input("rows", shape_if(s[2] > 0, {most}), spread, Stored::i32);
  const auto count = c.input("count", shape_if(s[2] > 0, {1}), constant(static_cast<double>(s[3])), Stored::i32);
  const auto gradients = [=](Tensor<double>& x, Random& random) {
    noise(0.1)(x, random);
    for (std::int64_t i = 0; i < most * width; ++i) x[i] *= i / width == 1 ? 0 : i / width % 7 == 6 ? 1e-8 : 1;
  };
  const auto d_rows = c.input("d_rows", {most, width}, gradients, Stored::single);
  const auto table = c.updated("table", {table_rows, width}, noise(0.25), Stored::single);
  const auto past = [=](Tensor<double>& x, Random& random) {
    positive(0.01)(x, random);
    for (std::int64_t i = 1; i < table_rows; i += 3) x[i] = 0;
  };
  const auto v = c.updated("v", {table_rows}, past, Stored::single);
  c.tolerance = 1e-5;
  c.run("rowwise_rmsprop",
        [=](auto& device, const Operands& at) {
          rowwise_rmsprop(device, {at[control], at[norm], at[rows], at[count], at[d_rows], at[table], at[v]});
        },
        {0, static_cast<double>(12 * s[3] * width + 8 * table_rows)});
  c.formula = [=](Values& x) {
    if (now.overflow != 0) return;
    for (double& moment : x[v].data) moment *= 0.98;
    for (std::int64_t i = 0; i < s[3]; ++i) {
      const std::int64_t row = rows ? static_cast<std::int64_t>(x[rows][i]) : i;
      for (std::int64_t e = 0; e < width; ++e)
        x[v][row] += 0.02 * std::pow(0.5 * x[d_rows][i * width + e], 2) / static_cast<double>(width);
      for (std::int64_t e = 0; e < width; ++e)
        x[table][row * width + e] -= 0.25 * std::sqrt(0.02) * 0.5 * x[d_rows][i * width + e] / std::sqrt(x[v][row] + 1e-24);
    }
  };
}

const Listed rowwise_rmsprop_entry{{
    .name = "rowwise_rmsprop",
    .shapes = {{1, 4, 1, 1, 0}, {61, 40, 40, 13, 0}, {61, 40, 40, 0, 0}, {5, 8, 2, 1, 2}, {61, 40, 0, 61, 0}},
    .cpu_shapes = {{61, 37, 40, 40, 0}},
    .gpu_shapes = {{500, 160, 20, 13, 0}, {500, 1056, 20, 13, 0}},
    .timed = {{65'536, 1024, 8192, 8000, 0}},
    .body = rowwise_rmsprop_case,
}};

}  // namespace
}  // namespace neurogen
