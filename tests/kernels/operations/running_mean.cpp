#include "kernels/running_mean.h"

#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

enum Before : std::int64_t { none, some };  // micro-batches of the step

// [rows, E, counted tokens, Before, most touched rows, touched rows]; 0 touched rows at most: no table.
void running_mean_case(Case& c, const Shape& s) {
  const std::int64_t rows = s[0], width = s[1], most = s[4];
  const auto count = static_cast<double>(s[2]), past = s[3] == some ? 12.0 : 0.0;
  const auto total = c.input("total", {2}, values({3.5, count}), Stored::f64);
  const auto counted = c.updated("counted", {1}, constant(past), Stored::f64);
  const auto share = c.output("share", {1}, Stored::f64);
  const auto spread = [=](Tensor<double>& x, Random&) {
    for (std::int64_t i = 0; i < most; ++i) x[i] = static_cast<double>(i * rows / most);
  };
  const auto touched = c.input("rows", shape_if(most > 0, {most}), spread, Stored::i32);
  const auto touched_count = c.input("count", shape_if(most > 0, {1}), constant(static_cast<double>(s[5])), Stored::i32);
  const auto value = c.input("value", {most > 0 ? most : rows, width}, noise(0.1), Stored::gradient);
  const auto mean = c.updated("mean", {rows, width}, noise(0.1), Stored::single, s[3] == none ? Use::replaced : Use::updated);
  c.run("running_mean_share", [=](auto& device, const Operands& at) {
    running_mean_share(device, {at[total], at[counted], at[share]});
  });
  c.run("running_mean", [=](auto& device, const Operands& at) {
    running_mean(device, {at[share], at[value], at[mean], at[touched], at[touched_count]});
  });
  c.formula = [=](Values& v) {
    v[counted][0] = past + count;
    const double part = v[share][0] = past + count > 0 ? count / (past + count) : 1;
    for (double& x : v[mean].data) x = part == 1 ? 0 : (1 - part) * x;
    for (std::int64_t i = 0; i < (touched ? s[5] : rows); ++i) {
      const std::int64_t row = touched ? static_cast<std::int64_t>(v[touched][i]) : i;
      for (std::int64_t e = 0; e < width; ++e) v[mean][row * width + e] += part * v[value][i * width + e];
    }
  };
}

const Listed running_mean_entry{{
    .name = "running_mean",
    .shapes = {{21, 96, 5, none, 0, 0},
               {21, 96, 5, some, 0, 0},
               {21, 96, 0, some, 0, 0},
               {1, 4, 1, some, 0, 0},
               {61, 40, 7, none, 40, 13},
               {61, 40, 7, some, 40, 13},
               {61, 40, 0, some, 40, 0}},
    .cpu_shapes = {{3, 7001, 2, some, 0, 0}, {61, 37, 5, some, 40, 40}, {5, 3, 0, none, 0, 0}},
    .gpu_shapes = {{500, 1056, 9, some, 20, 13}},
    .timed = {{32'000, 1024, 256, some, 0, 0}, {65'536, 1024, 8192, some, 8192, 8000}},
    .body = running_mean_case,
}};

}  // namespace
}  // namespace neurogen
