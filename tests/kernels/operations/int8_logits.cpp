#include "kernels/int8_logits.h"

#include <algorithm>
#include <cmath>

#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// Rows in steps of their largest element's 127th, in float32 as the operation rounds them, and the steps.
std::vector<float> round_rows(Tensor<double>& x, std::int64_t width) {
  std::vector<float> steps;
  for (std::size_t begin = 0; begin < x.data.size(); begin += static_cast<std::size_t>(width)) {
    float most = 0;
    for (std::int64_t l = 0; l < width; ++l)
      most = std::max(most, std::abs(static_cast<float>(x[static_cast<std::int64_t>(begin) + l])));
    const float inverse = most > 0 ? 127 / most : 0;
    for (std::int64_t l = 0; l < width; ++l) {
      double& value = x.data[begin + static_cast<std::size_t>(l)];
      value = std::nearbyint(static_cast<float>(value) * inverse);
    }
    steps.push_back(most / 127);
  }
  return steps;
}

// [tokens, vocabulary, features, rows of the decoder at a time, softcap]
void int8_logits_case(Case& c, const Shape& s) {
  const std::int64_t n = s[0], vocabulary = s[1], width = s[2], rows = s[3];
  const auto softcap = static_cast<double>(s[4]);
  const auto uneven = [=](Tensor<double>& x, Random& random) {
    noise(2)(x, random);
    x[0] = 100;                                                  // a row with one large element
    if (n > 1) std::fill_n(x.data.begin() + width, width, 0.0);  // and one of zeros
  };
  const auto some = [=](Tensor<double>& x, Random& random) {
    below(vocabulary)(x, random);
    if (n > 2) x[2] = -1;
  };
  const auto features = c.input("features", {n, width}, uneven), decoder = c.input("decoder", {vocabulary, width}, noise(0.05)),
             targets = c.input("targets", {n}, some, Stored::i32), logits = c.output("logits", {n, vocabulary}),
             maximum = c.output("maximum", {n}, Stored::single), sum = c.output("sum", {n}, Stored::single),
             target_logit = c.output("target_logit", {n}, Stored::single, Use::partial),
             features8 = c.scratch("features8", {n, width}, Stored::u8),
             features_scale = c.scratch("features_scale", {n}, Stored::f32),
             weights8 = c.scratch("weights8", {rows, width}, Stored::u8),
             weights_scale = c.scratch("weights_scale", {rows}, Stored::f32),
             products = c.scratch("products", {n, rows}, Stored::i32), workspace = c.scratch("workspace", {1 << 20}, Stored::u8);
  c[logits].before = c[logits].after = 16;
  c[maximum].roundings = c[sum].roundings = c[target_logit].roundings = 1;
  c.run("int8_logits",
        [=](auto& device, const Operands& at) {
          int8_logits(device,
                      {at[features], at[decoder], at[logits], at[targets], at[maximum], at[sum], at[target_logit], at[features8],
                       at[features_scale], at[weights8], at[weights_scale], at[products], at[workspace], softcap});
        },
        {2 * static_cast<double>(n * vocabulary * width)});
  if (n * vocabulary * width > 2'000'000) return;
  c.formula = [=](Values& v) {
    Tensor<double> x = v[features], w = v[decoder];
    const std::vector<float> steps_x = round_rows(x, width), steps_w = round_rows(w, width);
    for (std::int64_t i = 0; i < n; ++i) {
      std::vector<double> row;
      for (std::int64_t j = 0; j < vocabulary; ++j) {
        double dot = 0;
        for (std::int64_t l = 0; l < width; ++l) dot += x[i * width + l] * w[j * width + l];
        const double z = dot * (steps_x[static_cast<std::size_t>(i)] * steps_w[static_cast<std::size_t>(j)]);
        v[logits][i * vocabulary + j] = z;
        row.push_back(softcap > 0 ? softcap * std::tanh(z / softcap) : z);
      }
      const double most = *std::max_element(row.begin(), row.end());
      v[maximum][i] = most;
      v[sum][i] = 0;
      for (const double l : row) v[sum][i] += std::exp(l - most);
      if (const double target = v[targets][i]; target >= 0) v[target_logit][i] = row[static_cast<std::size_t>(target)];
    }
  };
}

const Listed int8_logits_entry{{
    .name = "int8_logits",
    .shapes = {{1, 16, 16, 16, 0}, {37, 80, 64, 32, 3}},
    .gpu_shapes = {{264, 1280, 512, 512, 0}},
    .timed = {{8192, 32000, 8192, 2048, 30}},
    .body = int8_logits_case,
    .types = {DType::bf16, DType::f16},
}};

}  // namespace
}  // namespace neurogen
