#include "kernels/brain/attention.h"

#include "kernels/rms_norm.h"
#include "tests/kernels/operations/brain.h"

namespace neurogen {
namespace {

// Attention by the definition, of one head's currents, `u(token, role, output)`: token n sees [oldest(n), n] at positions of its
// window.
template <typename Currents, typename Oldest>
std::vector<double> attend(std::int64_t n, std::int64_t roles, Currents&& u, Oldest&& oldest, std::int64_t window) {
  const auto turned = [&](std::int64_t m, std::int64_t role) {
    std::vector<double> z(64);
    double squares = 0;
    for (std::int64_t j = 0; j < 64; ++j) squares += u(m, role, j) * u(m, role, j);
    const double rms = std::sqrt(squares / 64 + 1e-5);
    for (std::int64_t i = 0; i < 32; ++i) {
      const double theta = static_cast<double>(m % window) * std::pow(10000, -2.0 * static_cast<double>(i) / 64);
      const double p = u(m, role, 2 * i) / rms, q = u(m, role, 2 * i + 1) / rms;
      z[static_cast<std::size_t>(2 * i)] = p * std::cos(theta) - q * std::sin(theta);
      z[static_cast<std::size_t>(2 * i + 1)] = p * std::sin(theta) + q * std::cos(theta);
    }
    return z;
  };
  std::vector<double> y(64, 0);
  double sum = 0;
  const auto q = turned(n, 0);
  for (std::int64_t m = oldest(n); m <= n; ++m) {
    const auto k = turned(m, 1);
    const double weight = std::exp(std::inner_product(q.begin(), q.end(), k.begin(), 0.0) / 8);
    sum += weight;
    for (std::int64_t j = 0; j < 64; ++j)
      y[static_cast<std::size_t>(j)] += weight * u(m, 2, j) * (roles == 5 ? 2 * logistic(u(m, 4, j)) : 1);
  }
  for (std::int64_t j = 0; j < 64; ++j) y[static_cast<std::size_t>(j)] *= logistic(u(n, 3, j)) / sum;
  return y;
}

// [R, heads, T, windows], with the norm that follows.
void attention_case(Case& c, const Shape& s) {
  const std::int64_t roles = s[0], groups = 2 * s[1], window = s[2], windows = s[3], tokens = window * windows,
                     outputs = groups * kGroup, columns = roles * kGroup;
  const auto single = Stored::single, gradient = Stored::gradient;
  const Shape inside{groups, tokens, columns}, wide{tokens, outputs};
  const auto first = c.input("first", {tokens}, documents_in(window), Stored::i32), currents = c.input("currents", inside);
  const auto gain = c.input("gain", {outputs}, noise(0.3, 1), single), d_out = c.input("d_out", wide, noise(), gradient);
  const auto pre_norm = c.output("pre_norm", wide, gradient), out = c.output("out", wide),
             inverse = c.output("inverse_rms", {tokens}, single), dot = c.output("dot", {tokens}, single),
             d_currents = c.output("d_currents", inside), d_gain = c.updated("d_gain", {outputs}, noise(), single);
  // Products of rounded queries, keys, values, weights and their gradients.
  c[pre_norm].roundings = c[d_currents].roundings = c[d_gain].roundings = 3;
  c.tolerance = 2e-5;
  const auto scratch = c.scratch("scratch", {3, attention_scratch(window)});
  const auto q = c.scratch("q", wide), d_mixed = c.scratch("d_mixed", wide), notes = c.scratch("notes", {groups, tokens}, single),
             sums = c.scratch("sums", {windows, attention_tiles(window, DType::f32), outputs}, single);
  const auto section = c.scratch("section", inside), d_section = c.scratch("d_section", inside);

  const auto forward = [=](auto& device, const Operands& at, const Part& p, const TensorView& u) {
    attention_forward(device, {u, p.rows(at[first]), window, p.of(at[pre_norm]), at[scratch]});
  };
  const auto norm = [=](auto& device, const Operands& at) {
    rms_norm_forward(device, {at[pre_norm], at[gain], at[out], at[inverse]});
  };
  const auto norm_dot = [=](auto& device, const Operands& at) { rms_norm_backward_dot(device, {at[d_out], at[out], at[dot]}); };
  const auto backward = [=](auto& device, const Operands& at, const Part& p, const TensorView& u, const TensorView& d_u) {
    const auto own = [&](Id id, const Shape& shape) { return make_view(at[id].data, at[id].dtype, shape); };
    const std::int64_t width = p.groups * kGroup;
    attention_backward(device,
                       {u, p.rows(at[first]), window, p.of(at[d_out]), p.rows(at[inverse]), p.rows(at[dot]), p.range(at[gain]), d_u,
                        p.range(at[d_gain]), at[scratch], own(q, {p.tokens, width}), own(d_mixed, {p.tokens, width}),
                        own(notes, {p.groups, p.tokens}), own(sums, {p.tokens / window, attention_tiles(window, u.dtype), width})});
  };
  const Part all{0, groups, 0, tokens};
  c.run("attention_forward", [=](auto& device, const Operands& at) { forward(device, at, all, at[currents]); });
  c.run("norm", norm);
  c.run("norm_dot", norm_dot);
  c.loss_is(out, d_out);
  c.run("attention_backward", [=](auto& device, const Operands& at) { backward(device, at, all, at[currents], at[d_currents]); });
  c.also("in ranges and sections", [=](auto& device, const Operands& at) {
    const auto parts = parts_of(groups, 2, tokens, window);
    for (const Part& p : parts) forward(device, at, p, p.pack(device, at[currents], at[section]));
    norm(device, at);
    norm_dot(device, at);
    for (const Part& p : parts) {
      backward(device, at, p, p.pack(device, at[currents], at[section]), p.packed(at[d_section]));
      p.unpack(device, at[d_section], at[d_currents]);
    }
  });
  c.formula = [=](Values& v) {
    for (std::int64_t head = 0; head < groups / 2; ++head)
      for (std::int64_t n = 0; n < tokens; ++n) {
        const auto u = [&](std::int64_t m, std::int64_t role, std::int64_t j) {
          return v[currents][((2 * head + j / 32) * tokens + m) * columns + role * 32 + j % 32];
        };
        const auto oldest = [&](std::int64_t m) { return m / window * window + static_cast<std::int64_t>(v[first][m]); };
        const auto y = attend(n, roles, u, oldest, window);
        std::copy(y.begin(), y.end(), &v[pre_norm][n * outputs + head * 64]);
      }
  };
  c.formula_gives = {pre_norm};
  c.gradient(currents, d_currents), c.gradient(gain, d_gain);
}

const Listed attention_entry{{
    .name = "attention",
    .shapes = {{4, 1, 1, 2}, {4, 2, 7, 2}, {5, 2, 9, 2}, {5, 1, 70, 2}, {4, 1, 150, 2}, {5, 2, 64, 1}},
    .gpu_shapes = {{5, 3, 300, 2}, {4, 2, 129, 4}, {5, 1, 256, 3}, {4, 1, 3, 4}},
    .timed = {{5, 64, 256, 32}},
    .body = attention_case,
    .bf16_capability = 80,
}};

// [R, heads, streams, ring, tokens, first position, where a document begins]
void attention_step_case(Case& c, const Shape& s) {
  const std::int64_t roles = s[0], groups = 2 * s[1], streams = s[2], ring = s[3], tokens = s[4], start = s[5], document = s[6],
                     outputs = groups * kGroup, columns = roles * kGroup;
  const auto single = Stored::single;
  const auto currents = c.input("currents", {tokens * groups, streams, columns}, noise(), single);
  const auto counted = [=](bool firsts) {
    return [=](Tensor<double>& x, Random&) {
      for (std::int64_t t = 0; t < tokens; ++t) x[t] = static_cast<double>(start + (firsts ? (t < document ? 0 : document) : t));
    };
  };
  const auto position = c.input("position", {tokens}, counted(false), Stored::i64),
             first = c.input("first", {tokens}, counted(true), Stored::i64);
  const auto keys = c.output("keys", {streams, ring, outputs}, single, Use::partial),
             values = c.output("values", {streams, ring, outputs}, single, Use::partial);
  const auto pre_norm = c.output("pre_norm", {tokens * streams, outputs}, Stored::gradient);
  c.tolerance = 1e-5;
  c.run("attention_step", [=](auto& device, const Operands& at) {
    for (std::int64_t t = 0; t < tokens; ++t)
      attention_step(device, {at[currents].rows(t * groups, groups), at[keys], at[values], at[position].rows(t, 1),
                              at[first].rows(t, 1), at[pre_norm].rows(t * streams, streams)});
  });
  if (start > 0) return;  // whose angles the formula would not know as exactly
  c.formula = [=](Values& v) {
    for (std::int64_t i = 0; i < groups / 2 * streams; ++i)
      for (std::int64_t t = 0; t < tokens; ++t) {
        const std::int64_t head = i / streams, stream = i % streams;
        const auto u = [&](std::int64_t m, std::int64_t role, std::int64_t j) {
          return v[currents][((m * groups + 2 * head + j / 32) * streams + stream) * columns + role * 32 + j % 32];
        };
        const auto oldest = [&](std::int64_t m) { return std::max({m < document ? 0 : document, m - ring + 1, std::int64_t{0}}); };
        const auto y = attend(t, roles, u, oldest, tokens);
        std::copy(y.begin(), y.end(), &v[pre_norm][(t * streams + stream) * outputs + head * 64]);
      }
  };
  c.formula_gives = {pre_norm};
}

const Listed attention_step_entry{{
    .name = "attention_step",
    .shapes = {{4, 1, 1, 1, 3, 0, 0},
               {4, 2, 2, 40, 40, 0, 0},
               {5, 2, 2, 13, 40, 0, 0},
               {5, 1, 3, 30, 40, 0, 17},
               {5, 1, 2, 20, 40, 100'000'003, 5}},
    .gpu_shapes = {{5, 3, 3, 90, 120, 0, 60}, {4, 3, 1, 61, 120, 100'000'003, 0}},
    .timed = {{5, 64, 1, 256, 1, 300, 0}},
    .body = attention_step_case,
}};

}  // namespace
}  // namespace neurogen
