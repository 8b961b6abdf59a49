#include "kernels/adafactor.h"

#include "kernels/loss_scale.h"
#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// [V, O, rows of a tile, step, overflow, strided]. The updates of large gradients are clipped; a GPU takes whole vectors.
void adafactor_case(Case& c, const Shape& s) {
  const std::int64_t vocabulary = s[0], outputs = s[1], tile = s[2], step = s[3], tiles = (vocabulary + tile - 1) / tile;
  StepControl now{.step = step + 2, .learning_rate = 99, .decoder_learning_rate = 1e-3f, .loss_scale = 64};
  now.overflow = static_cast<std::int32_t>(s[4]), now.decoder_skips = 2;
  const auto control = c.control(now);
  const auto some = [=](Tensor<double>& x, Random& random) {
    noise(0.064)(x, random);
    std::fill_n(&x[vocabulary / 2 * outputs], outputs, 0.0);  // a token that never occurs
  };
  const auto gradient = c.input("gradient", {vocabulary, outputs}, some, Stored::gradient);
  const auto weight = c.updated("weight", {vocabulary, outputs}, noise(0.02), Stored::single);
  if (s[5] != 0) c[gradient].before = c[weight].after = 7;
  const Fill past = step == 0 ? constant(0) : constant(2e-7);
  const auto row = c.updated("row", {vocabulary}, past, Stored::single),
             column = c.updated("column", {outputs}, past, Stored::single);
  const auto column_sum = c.updated("column_sum", {outputs}, constant(0), Stored::single);
  const auto scratch = c.scratch("scratch", {tiles, adafactor_scratch(tile, outputs)}, Stored::f64);
  c.tolerance = 2e-5;
  const auto part = [=](auto& device, const Operands& at, std::int64_t first, std::int64_t rows) {
    adafactor_tiles(device, {at[control], at[gradient].rows(first, rows), at[weight].rows(first, rows), at[row].rows(first, rows),
                             at[column], at[column_sum], at[scratch], tile, first});
  };
  const auto finish = [=](auto& device, const Operands& at) {
    adafactor_finish(device, {at[column_sum], vocabulary, at[column], at[control]});
  };
  c.run("adafactor_tiles", [=](auto& device, const Operands& at) { part(device, at, 0, vocabulary); });
  c.run("adafactor_finish", finish);
  c.also("tile by tile", [=](auto& device, const Operands& at) {
    for (std::int64_t v = 0; v < vocabulary; v += tile) part(device, at, v, std::min(tile, vocabulary - v));
    finish(device, at);
  });
  c.formula = [=](Values& v) {
    if ((now.overflow & kDecoderOverflow) != 0) return;
    const auto g = [&](std::int64_t i, std::int64_t j) { return v[gradient][i * outputs + j] / 64; };
    const auto q = [&](std::int64_t i, std::int64_t j) { return g(i, j) * g(i, j) + 1e-30; };
    const double width = static_cast<double>(outputs);
    for (std::int64_t i = 0; i < vocabulary; ++i) {
      v[row][i] *= 0.99;
      for (std::int64_t j = 0; j < outputs; ++j) v[row][i] += 0.01 * q(i, j) / width, v[column_sum][j] += q(i, j);
    }
    for (std::int64_t from = 0; from < vocabulary; from += tile) {
      const std::int64_t to = std::min(vocabulary, from + tile);
      std::vector<double> estimate(static_cast<std::size_t>(outputs), 0);
      double mean = 0, squares = 0;
      for (std::int64_t j = 0; j < outputs; ++j) {
        double& e = estimate[static_cast<std::size_t>(j)];
        for (std::int64_t i = from; i < to; ++i) e += q(i, j) / static_cast<double>(to - from);
        if (step > 0) e = v[column][j] / (1 - std::pow(0.99, step));
        mean += e / width;
      }
      const auto u = [&](std::int64_t i, std::int64_t j) {
        return g(i, j) / std::sqrt(v[row][i] / (1 - std::pow(0.99, step + 1)) / mean * estimate[static_cast<std::size_t>(j)]);
      };
      for (std::int64_t i = from; i < to; ++i)
        for (std::int64_t j = 0; j < outputs; ++j) squares += u(i, j) * u(i, j);
      const double rms = std::sqrt(squares / (static_cast<double>(to - from) * width));
      for (std::int64_t i = from; i < to; ++i)
        for (std::int64_t j = 0; j < outputs; ++j) v[weight][i * outputs + j] -= 0.001f * u(i, j) / std::max(1.0, rms);
    }
    for (std::int64_t j = 0; j < outputs; ++j)
      v[column][j] = 0.99 * v[column][j] + 0.01 * v[column_sum][j] / static_cast<double>(vocabulary);
  };
}

const Listed adafactor_entry{{
    .name = "adafactor",
    .shapes = {{5, 8, 5, 0, 0, 0},
               {150, 32, 100, 0, 0, 0},
               {150, 40, 100, 1, 0, 0},
               {193, 1104, 64, 300, 0, 0},
               {9, 8, 4, 5, kDecoderOverflow, 0},
               {9, 8, 4, 5, kTrunkOverflow, 0}},
    .cpu_shapes = {{5, 3, 5, 0, 0, 0}, {150, 33, 100, 7, 0, 1}},
    .gpu_shapes = {{1000, 200, 300, 1, 0, 0}, {1000, 2056, 300, 0, 0, 0}},
    .timed = {{1280, 8192, 1280, 5, 0, 0}},
    .body = adafactor_case,
}};

}  // namespace
}  // namespace neurogen
