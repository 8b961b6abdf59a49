#include "kernels/muon.h"

#include "tests/kernels/operations/operation.h"
#include "tests/kernels/orthogonal.h"

namespace neurogen {
namespace {

struct Synapses {
  Id gradient, value, momentum, low;
  std::int64_t groups, fan_in, roles;
  double decay;
};

// One role of one group as a matrix, and back.
Matrix matrix_of(const Synapses& s, const Tensor<double>& x, std::int64_t g, std::int64_t r) {
  Matrix out(static_cast<std::size_t>(s.fan_in), std::vector<double>(32));
  for (std::size_t f = 0; f < out.size(); ++f)
    std::copy_n(&x[((g * s.fan_in + static_cast<std::int64_t>(f)) * s.roles + r) * 32], 32, out[f].begin());
  return out;
}

void step(const Synapses& s, Values& v, double rate, std::int64_t g, std::int64_t r) {
  Matrix u = matrix_of(s, v[s.gradient], g, r);
  for (std::size_t f = 0; f < u.size(); ++f)
    for (std::size_t j = 0; j < 32; ++j) {
      double& m = v[s.momentum][((g * s.fan_in + static_cast<std::int64_t>(f)) * s.roles + r) * 32 + static_cast<std::int64_t>(j)];
      const double gradient = 0.25 * u[f][j];
      m = 0.95 * m + 0.05 * gradient;
      u[f][j] = 0.05 * gradient + 0.95 * m;
    }
  const Matrix o = orthogonal(u);
  for (std::size_t f = 0; f < u.size(); ++f)
    for (std::size_t j = 0; j < 32; ++j) {
      const std::int64_t at = ((g * s.fan_in + static_cast<std::int64_t>(f)) * s.roles + r) * 32 + static_cast<std::int64_t>(j);
      v[s.value][at] -= rate * (s.decay * v[s.value][at] + o[f][j]);
    }
}

// [overflow, groups, fan-in, R, groups, fan-in, R, ...], all in one call; every second has decay, two of three a copy in 16 bits;
// the third has no gradient, the fourth a tiny one.
void muon_case(Case& c, const Shape& s) {
  const StepControl now{
      .step = 7, .learning_rate = 99, .synapse_learning_rate = 0.03125f, .overflow = static_cast<std::int32_t>(s[0])};
  const auto control = c.control(now), norm = c.input("norm", {2}, constant(0.25), Stored::single);
  std::vector<Synapses> all;
  std::int64_t most = 0;
  for (std::size_t i = 0; 3 * i + 1 < s.size(); ++i) {
    const std::int64_t groups = s[3 * i + 1], fan_in = s[3 * i + 2], roles = s[3 * i + 3];
    const Shape shape{groups, fan_in, 32 * roles};
    const double size = i == 2 ? 0 : i == 3 ? 1e-6 : 0.1;
    const auto gradient = c.input("gradient", shape, noise(size), Stored::single);
    const auto value = c.updated("value", shape, noise(0.02), Stored::single);
    const auto momentum = c.updated("momentum", shape, noise(size / 4), Stored::single);
    const auto low = i % 3 != 2 && now.overflow == 0 ? c.output("low", shape, Stored::bf16) : Id{};
    if (low) c[low].copy_of = value;
    all.push_back({gradient, value, momentum, low, groups, fan_in, roles, i % 2 == 0 ? 0.05 : 0});
    most = std::max(most, fan_in);
  }
  const auto scratch = c.scratch("scratch", {3, muon_scratch(most)}, Stored::single);
  c.tolerance = 4e-5;  // five steps multiply errors
  const auto update = [=](const Operands& at, const Synapses& u) {
    return MuonUpdate{at[u.gradient], at[u.value], at[u.momentum], u.decay, at[u.low]};
  };
  c.run("muon", [=](auto& device, const Operands& at) {
    Muon arguments{at[control], at[norm], {}, at[scratch]};
    for (const Synapses& u : all) arguments.updates.add(update(at, u));
    muon(device, arguments);
  });
  c.also("alone", [=](auto& device, const Operands& at) {
    for (const Synapses& u : all) muon(device, {at[control], at[norm], {update(at, u)}, at[scratch]});
  });
  c.formula = [=](Values& v) {
    for (const Synapses& u : all)
      for (std::int64_t i = 0; now.overflow == 0 && i < u.groups * u.roles; ++i)
        step(u, v, static_cast<double>(now.synapse_learning_rate), i / u.roles, i % u.roles);
  };
}

const Listed muon_entry{{
    .name = "muon",
    .shapes = {{0, 2, 16, 2, 1, 32, 3, 1, 48, 4, 1, 64, 5}, {0, 1, 96, 2, 2, 128, 3, 1, 160, 4}, {2, 1, 96, 4}},
    .cpu_shapes = {{0, 1, 272, 2}},
    .gpu_shapes = {{0, 40, 256, 5, 7, 96, 4}},
    .timed = {{0, 256, 96, 5}, {0, 32, 64, 4, 256, 96, 5, 128, 96, 5, 64, 96, 5, 256, 128, 5, 256, 96, 5}},
    .body = muon_case,
}};

}  // namespace
}  // namespace neurogen
