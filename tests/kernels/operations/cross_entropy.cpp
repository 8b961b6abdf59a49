#include "kernels/cross_entropy.h"

#include <numeric>

#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

Fill targets_below(std::int64_t vocabulary) {
  return [=](Tensor<double>& targets, Random& random) {
    below(vocabulary)(targets, random);
    for (std::size_t n = 3; n < targets.data.size(); n += 5) targets.data[n] = -1;
  };
}

template <typename Body>
void for_parts(std::int64_t all, std::int64_t part, Body&& body) {
  for (std::int64_t begin = 0; begin < all; begin += part) body(begin, std::min(part, all - begin));
}

// [N, V, part, softcap]: a part of the vocabulary, or (whole rows) of the tokens. Rows of logits are multiples of 4, as a GPU
// demands.
void cross_entropy_case(Case& c, const Shape& s, bool whole_rows) {
  const std::int64_t tokens = s[0], vocabulary = s[1], part = s[2];
  const double softcap = static_cast<double>(s[3]);
  const auto some = [=](Tensor<double>& z, Random& random) {
    noise(3)(z, random);
    if (softcap > 0) z[1] = 32768, z[2] = -32768, z[7] = 57344;  // near the end of f16, exact in each type
  };
  const auto logits = c.updated("logits", {tokens, vocabulary}, some, Stored::tested, Use::replaced);
  c[logits].after = (4 - vocabulary % 4) % 4, c[logits].roundings = 1;
  const auto targets = c.input("targets", {tokens}, targets_below(vocabulary), Stored::i32);
  const auto maximum = c.output("maximum", {tokens}, Stored::single), sum = c.output("sum", {tokens}, Stored::single),
             target = c.output("target_logit", {tokens}, Stored::single, Use::partial),
             log_sum = c.output("log_sum_exp", {tokens}, Stored::single), loss = c.output("loss", {tokens}, Stored::single),
             total = c.output("total", {2}, Stored::f64);
  const auto control = c.control({.loss_scale = 1024});
  c.tolerance = 1e-5;
  const auto loss_of = [=](const Values&, const Values& after) { return 1024 * after[total][0] / after[total][1]; };
  const auto add_loss = [&] {
    c.run("cross_entropy_loss", [=](auto& device, const Operands& at) {
      cross_entropy_loss(device, {at[maximum], at[sum], at[target], at[targets], at[log_sum], at[loss], at[total]});
    });
    c.loss_is(loss_of);
  };
  if (whole_rows) {
    c.run("cross_entropy_rows", [=](auto& device, const Operands& at) {
      count_targets(device, {at[targets], at[total]});
      for_parts(tokens, part, [&](std::int64_t n, std::int64_t count) {
        cross_entropy_rows(device, {at[logits].rows(n, count), at[targets].rows(n, count), at[total], at[maximum].rows(n, count),
                                    at[sum].rows(n, count), at[target].rows(n, count), at[control], softcap});
      });
    });
    add_loss();
  } else {
    c.run("softmax_statistics", [=](auto& device, const Operands& at) {
      for_parts(vocabulary, part, [&](std::int64_t v, std::int64_t width) {
        softmax_statistics(device, {at[logits].columns(v, width), at[targets], v, at[maximum], at[sum], at[target], softcap});
      });
    });
    add_loss();
    c.run("cross_entropy_backward", [=](auto& device, const Operands& at) {
      for_parts(vocabulary, part, [&](std::int64_t v, std::int64_t width) {
        cross_entropy_backward(device,
                               {at[logits].columns(v, width), at[targets], at[log_sum], at[total], v, at[control], softcap});
      });
    });
  }
  c.formula = [=](Values& v) {
    v[total][0] = 0, v[total][1] = 0;
    for (std::int64_t n = 0; n < tokens; ++n) v[total][1] += v[targets][n] >= 0;
    for (std::int64_t n = 0; n < tokens; ++n) {
      double* const z = &v[logits][n * vocabulary];
      const auto at = static_cast<std::int64_t>(v[targets][n]);
      const auto logit = [&](std::int64_t j) { return softcap > 0 ? softcap * std::tanh(z[j] / softcap) : z[j]; };
      double exponentials = 0;
      v[maximum][n] = logit(std::max_element(z, z + vocabulary) - z);
      for (std::int64_t j = 0; j < vocabulary; ++j) exponentials += std::exp(logit(j));
      v[log_sum][n] = std::log(exponentials), v[sum][n] = exponentials / std::exp(v[maximum][n]);
      if (at >= 0) v[target][n] = logit(at);
      v[loss][n] = at < 0 ? 0 : v[log_sum][n] - v[target][n];
      v[total][0] += v[loss][n];
      for (std::int64_t j = 0; j < vocabulary; ++j) {
        const double slope = softcap > 0 ? 1 - std::pow(logit(j) / softcap, 2) : 1;
        z[j] = at < 0 ? 0 : 1024 * (std::exp(logit(j)) / exponentials - (j == at)) * slope / v[total][1];
      }
    }
  };
  if (vocabulary > 1) c.gradient(logits, logits);  // one token alone is certain
}

const Listed cross_entropy_entry{{
    .name = "cross_entropy",
    .shapes =
        {{1, 1, 4, 0}, {6, 17, 8, 3}, {5, 3, 4, 0}, {37, 301, 301, 0}, {37, 301, 152, 5}, {37, 301, 4, 30}, {20, 1500, 300, 30}},
    .cpu_shapes = {{37, 301, 7, 0}},
    .gpu_shapes = {{301, 997, 1000, 0}, {301, 997, 300, 30}},
    .timed = {{8192, 1280, 1280, 30}},
    .body = [](Case& c, const Shape& s) { cross_entropy_case(c, s, false); },
}};

const Listed cross_entropy_rows_entry{{
    .name = "cross_entropy_rows",
    .shapes = {{1, 1, 1, 0}, {6, 17, 4, 3}, {5, 3, 5, 0}, {37, 301, 37, 5}, {20, 4500, 7, 30}},
    .gpu_shapes = {{301, 10003, 128, 0}},
    .timed = {{1024, 50257, 1024, 0}},
    .body = [](Case& c, const Shape& s) { cross_entropy_case(c, s, true); },
}};

void softcap_logits_case(Case& c, const Shape& s) {
  const double softcap = static_cast<double>(s[2]);
  const auto logits = c.updated("logits", {s[0], s[1]}, noise(20), Stored::single, Use::replaced);
  c.run("softcap_logits", [=](auto& device, const Operands& at) { softcap_logits(device, {at[logits], softcap}); });
  c.formula = [=](Values& v) {
    for (double& z : v[logits].data) z = softcap * std::tanh(z / softcap);
  };
}

const Listed softcap_logits_entry{{
    .name = "softcap_logits",
    .shapes = {{1, 1, 30}, {3, 1001, 7}},
    .body = softcap_logits_case,
}};

// [N, V, tile]. Many logits are equal.
void likeliest_tokens_case(Case& c, const Shape& s) {
  const std::int64_t tokens = s[0], vocabulary = s[1], tile = s[2];
  const auto quarters = [](Tensor<double>& x, Random& random) {
    noise(3)(x, random);
    for (double& value : x.data) value = std::round(value * 4) / 4;
  };
  const auto logits = c.input("logits", {tokens, vocabulary}, quarters);
  c[logits].after = (4 - vocabulary % 4) % 4;
  const auto targets = c.input("targets", {tokens}, targets_below(std::min<std::int64_t>(vocabulary, 9)), Stored::i32);
  const auto logit = c.output("logit", {tokens, kLikeliest}, Stored::single),
             token = c.output("token", {tokens, kLikeliest}, Stored::i32), hits = c.output("hits", {2}, Stored::f64);
  c.run("likeliest_tokens", [=](auto& device, const Operands& at) {
    for_parts(vocabulary, tile, [&](std::int64_t v, std::int64_t width) {
      likeliest_tokens(device, {at[logits].columns(v, width), v, at[logit], at[token]});
    });
  });
  c.run("count_hits", [=](auto& device, const Operands& at) { count_hits(device, {at[token], at[targets], at[hits]}); });
  c.formula = [=](Values& v) {
    v[hits] = Tensor<double>({2}, 0);
    for (std::int64_t n = 0; n < tokens; ++n) {
      std::vector<std::int64_t> ids(static_cast<std::size_t>(vocabulary));
      std::iota(ids.begin(), ids.end(), 0);
      const double* const z = &v[logits][n * vocabulary];
      std::stable_sort(ids.begin(), ids.end(), [=](std::int64_t a, std::int64_t b) { return z[a] > z[b]; });
      for (std::int64_t i = 0; i < kLikeliest; ++i) {
        const std::int64_t id = i < vocabulary ? ids[static_cast<std::size_t>(i)] : -1;
        v[token][n * kLikeliest + i] = static_cast<double>(id);
        v[logit][n * kLikeliest + i] = id < 0 ? -INFINITY : z[id];
        const bool hit = id >= 0 && v[targets][n] == static_cast<double>(id);
        v[hits][0] += i == 0 && hit, v[hits][1] += hit;
      }
    }
  };
}

const Listed likeliest_tokens_entry{{
    .name = "likeliest_tokens",
    .shapes = {{1, 1, 4}, {7, 3, 4}, {37, 301, 4}, {20, 1500, 300}},
    .cpu_shapes = {{5, 30, 7}, {5, 30, 1}},
    .gpu_shapes = {{301, 1002, 4096}, {40, 4096, 300}},
    .timed = {{8192, 1280, 1280}},
    .body = likeliest_tokens_case,
}};

}  // namespace
}  // namespace neurogen
