#include "kernels/heads.h"

#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// Rows of positions from `start` on.
void angles(Tensor<double>& table, double start, double theta) {
  const std::int64_t width = table.shape[1], half = width / 2;
  for (std::int64_t i = 0; i < table.shape[0] * half; ++i) {
    const std::int64_t row = i / half * width, pair = i % half;
    const double angle =
        (start + static_cast<double>(i / half)) * std::pow(theta, -2 * static_cast<double>(pair) / static_cast<double>(width));
    table[row + pair] = std::cos(angle), table[row + half + pair] = std::sin(angle);
  }
}

// [T, d, first position, theta]
const Listed rotary_table_{{
    .name = "rotary_table",
    .shapes = {{1, 16, 0, 10'000}, {40, 16, 0, 100}, {300, 80, 0, 500'000}, {17, 128, 100'000'003, 10'000}},
    .cpu_shapes = {{9, 2, 0, 10'000}, {9, 10, 77, 10'000}},
    .timed = {{256, 64, 0, 10'000}},
    .body =
        [](Case& c, const Shape& s) {
          const std::int64_t rows = s[0];
          const auto start = static_cast<double>(s[2]), theta = static_cast<double>(s[3]);
          const auto positions = [=](Tensor<double>& x, Random&) { std::iota(x.data.begin(), x.data.end(), start); };
          const auto position = c.input("position", {rows}, positions, Stored::i64);
          const auto table = c.output("table", {rows, s[1]}, Stored::single);
          c.run("rotary_table", [=](auto& device, const Operands& at) {
            rotary_table(device, {theta, start > 0 ? at[position].rows(0, 1) : TensorView{}, at[table]});
          });
          c.also("row by row", [=](auto& device, const Operands& at) {
            for (std::int64_t t = 0; t < rows; ++t) rotary_table(device, {theta, at[position].rows(t, 1), at[table].rows(t, 1)});
          });
          c.formula = [=](Values& v) { angles(v[table] = Tensor<double>({rows, s[1]}, 0), start, theta); };
        },
}};

// [N, T, H, K, d, biases, norm, rotary]
std::vector<Shape> variants(const std::vector<Shape>& sizes) {
  std::vector<Shape> all;
  for (const Shape& z : sizes)
    for (std::int64_t bits = 1; bits < 8; ++bits) all.push_back({z[0], z[1], z[2], z[3], z[4], bits & 1, bits >> 1 & 1, bits >> 2});
  return all;
}

const Listed heads_{{
    .name = "heads",
    .shapes = variants({{1, 1, 1, 1, 16}, {21, 7, 3, 1, 16}, {34, 17, 2, 2, 80}, {300, 150, 3, 3, 32}}),
    .cpu_shapes = variants({{21, 7, 4, 2, 10}}),
    .gpu_shapes = variants({{300, 60, 3, 1, 64}, {130, 65, 4, 4, 128}, {40, 40, 6, 2, 256}, {600, 256, 12, 12, 64}}),
    .timed = {{8192, 256, 8, 8, 64, 0, 1, 1}, {8192, 1024, 12, 12, 64, 1, 0, 0}},
    .body =
        [](Case& c, const Shape& s) {
          const std::int64_t tokens = s[0], window = s[1], queries = s[2], keys = s[3], width = s[4], normed = queries + keys,
                             columns = (queries + 2 * keys) * width;
          const HeadCounts counts{queries, keys};
          const Stored single = Stored::single;
          const auto vector = [=](std::int64_t heads) { return shape_if(s[5] != 0, {heads * width}); };
          const auto bias = [&](const char* name, std::int64_t heads) { return c.input(name, vector(heads), noise(), single); };
          const auto query_bias = bias("query_bias", queries), key_bias = bias("key_bias", keys),
                     value_bias = bias("value_bias", keys);
          const auto table = c.output("table", shape_if(s[7] != 0, {window, width}), single);
          const auto inverse = c.output("inverse", shape_if(s[6] != 0, {tokens, normed}), single);
          const auto qkv = c.updated("qkv", {tokens, columns}, noise(), Stored::tested, Use::replaced),
                     d_qkv = c.updated("d_qkv", {tokens, columns}, noise(), Stored::tested, Use::replaced);
          c[qkv].after = c[d_qkv].before = 8;
          const auto d_bias = [&](const char* name, std::int64_t heads) {
            const auto id = c.output(name, vector(heads), single);
            if (id) c[id].roundings = 1;  // sums of gradients as memory holds them
            return id;
          };
          const auto d_query_bias = d_bias("d_query_bias", queries), d_key_bias = d_bias("d_key_bias", keys),
                     d_value_bias = d_bias("d_value_bias", keys);
          const auto sums = c.scratch("sums", shape_if(s[5] != 0, {row_parts(tokens), columns}), single);
          if (table)
            c.run("rotary_table", [=](auto& device, const Operands& at) { rotary_table(device, {10'000, {}, at[table]}); });
          c.run("heads_forward", [=](auto& device, const Operands& at) {
            heads_forward(device, {counts, at[query_bias], at[key_bias], at[value_bias], at[table], 1e-3, at[inverse], at[qkv]});
          });
          c.loss_is(qkv, d_qkv);
          c.run("heads_backward", [=](auto& device, const Operands& at) {
            heads_backward(device, {counts, at[table], at[inverse], at[qkv], at[d_qkv], at[d_query_bias], at[d_key_bias],
                                    at[d_value_bias], at[sums]});
          });
          c.formula = [=](Values& v) {
            struct Part {
              Id bias, d_bias;
              std::int64_t first;  // head
            };
            const Part parts[] = {
                {query_bias, d_query_bias, 0}, {key_bias, d_key_bias, queries}, {value_bias, d_value_bias, normed}};
            if (table) angles(v[table] = Tensor<double>({window, width}, 0), 0, 10'000);
            for (const Part& part : parts)
              if (part.bias) v[part.d_bias] = Tensor<double>(v[part.bias].shape, 0);
            for (std::int64_t i = 0; i < tokens * (queries + 2 * keys); ++i) {
              const std::int64_t n = i / (queries + 2 * keys), head = i % (queries + 2 * keys), half = width / 2;
              const Part& part = parts[head < queries ? 0 : head < normed ? 1 : 2];
              double *const x = &v[qkv][i * width], *const d = &v[d_qkv][i * width];
              const auto turn = [&](double* pair, double sign) {
                for (std::int64_t j = 0; j < half && table && head < normed; ++j) {
                  const double cosine = v[table][n % window * width + j], sine = sign * v[table][n % window * width + half + j];
                  const double low = pair[j], high = pair[half + j];
                  pair[j] = low * cosine - high * sine, pair[half + j] = high * cosine + low * sine;
                }
              };
              for (std::int64_t j = 0; j < width && part.bias; ++j) x[j] += v[part.bias][(head - part.first) * width + j];
              turn(d, -1);
              if (inverse && head < normed) {
                const double count = static_cast<double>(width);
                const double scale = 1 / std::sqrt(std::inner_product(x, x + width, x, 0.0) / count + 1e-3);
                const double along = std::inner_product(x, x + width, d, 0.0) * scale / count;
                v[inverse][n * normed + head] = scale;
                for (std::int64_t j = 0; j < width; ++j) x[j] *= scale, d[j] = scale * (d[j] - x[j] * along);
              }
              turn(x, 1);
              for (std::int64_t j = 0; j < width && part.bias; ++j) v[part.d_bias][(head - part.first) * width + j] += d[j];
            }
          };
          c.gradient(qkv, d_qkv), c.gradient(query_bias, d_query_bias), c.gradient(key_bias, d_key_bias);
          c.gradient(value_bias, d_value_bias);
        },
}};

}  // namespace
}  // namespace neurogen
