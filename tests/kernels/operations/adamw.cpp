#include "kernels/adamw.h"

#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// [step, earlier skips, overflow, lengths ...]: every third has decay, every second a copy in 16 bits. A GPU takes multiples of 4.
void adamw_case(Case& c, const Shape& s) {
  StepControl now{.step = s[0], .learning_rate = 4e-3f, .table_learning_rate = 99};
  now.trunk_skips = static_cast<std::int32_t>(s[1]), now.overflow = static_cast<std::int32_t>(s[2]);
  const auto control = c.control(now), norm = c.input("norm", {2}, constant(0.25), Stored::single);
  struct One {
    Id gradient, parameter, m, v, low;
    double decay;
  };
  std::vector<One> all;
  for (std::size_t i = 0; i + 3 < s.size(); ++i) {
    const Shape shape{s[i + 3]};
    all.push_back({c.input("gradient", shape, noise(0.1), Stored::single),
                   c.updated("parameter", shape, noise(0.5), Stored::single), c.updated("m", shape, noise(0.1), Stored::single),
                   c.updated("v", shape, positive(0.1), Stored::single),
                   i % 2 == 0 && now.overflow == 0 ? c.output("low", shape, Stored::bf16) : Id{}, i % 3 == 0 ? 0.05 : 0});
  }
  for (const One& u : all)
    if (u.low) c[u.low].copy_of = u.parameter;
  c.tolerance = 5e-5;  // of a change beside a parameter
  c.run("adamw", [=](auto& device, const Operands& at) {
    AdamW arguments{at[control], at[norm], {}};
    for (const One& u : all) arguments.updates.add({at[u.gradient], at[u.parameter], at[u.m], at[u.v], u.decay, at[u.low]});
    adamw(device, arguments);
  });
  c.formula = [=](Values& x) {
    const double n = static_cast<double>(s[0] + 1 - s[1]), rate = static_cast<double>(now.learning_rate);
    for (const One& u : all)
      for (std::int64_t i = 0; now.overflow == 0 && i < x[u.m].shape[0]; ++i) {
        const double g = 0.25 * x[u.gradient][i];
        double &p = x[u.parameter][i], &m = x[u.m][i], &v = x[u.v][i];
        m = 0.9 * m + 0.1 * g;
        v = 0.98 * v + 0.02 * g * g;
        p -= rate * (u.decay * p + m / (1 - std::pow(0.9, n)) / (std::sqrt(v / (1 - std::pow(0.98, n))) + 1e-8));
      }
  };
}

Shape as_many_as_fit() {
  Shape shape{5, 0, 0};
  shape.insert(shape.end(), kMostSeveral, 200);
  return shape;
}

const Listed adamw_entry{{
    .name = "adamw",
    .shapes = {{0, 0, 0, 4}, {1, 0, 0, 20'000, 4, 36}, {200, 3, 0, 100, 104, 39'432, 8}, {7, 0, 1, 64, 32}},
    .cpu_shapes = {{3, 0, 0, 1, 105, 39'431}},
    .gpu_shapes = {as_many_as_fit()},
    .timed = {{5, 0, 0, 32'000'000}},
    .body = adamw_case,
}};

}  // namespace
}  // namespace neurogen
