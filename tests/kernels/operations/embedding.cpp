#include "kernels/embedding.h"

#include <map>

#include "kernels/copy.h"
#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// Some rows occur often, some never; the last one does.
Fill ids_of(std::int64_t rows) {
  return [=](Tensor<double>& ids, Random& random) {
    below(rows)(ids, random);
    for (std::size_t i = 0; i < ids.data.size(); i += 4) ids.data[i] = std::min<double>(2, static_cast<double>(rows - 1));
    ids[0] = static_cast<double>(rows - 1);
  };
}

// A table's touched rows and their gradients: returns the gradient of the whole table.
Case::Gradient add_rows(Case& c, const std::string& name, Id ids, std::int64_t rows, Id d_x, double scale) {
  const std::int64_t tokens = c[ids].shape[0], width = c[d_x].shape[1], most = std::min(tokens, rows);
  const auto histogram = c.scratch(name + ".histogram", {rows}, Stored::i32);
  const auto touched = c.output(name + ".rows", {most}, Stored::i32, Use::partial),
             start = c.output(name + ".row_start", {most + 1}, Stored::i32, Use::partial),
             order = c.output(name + ".order", {tokens}, Stored::i32), count = c.output(name + ".count", {1}, Stored::i32),
             d_rows = c.output(name + ".d_rows", {most, width}, Stored::single, Use::partial);
  c.run(name + ".touched_rows", [=](auto& device, const Operands& at) {
    touched_rows(device, {at[ids], rows, at[histogram], at[touched], at[start], at[order], at[count]});
  });
  c.run(name + ".row_gradients", [=](auto& device, const Operands& at) {
    row_gradients(device, {at[d_x], at[start], at[order], at[count], scale, at[d_rows]});
  });
  c.formula = [=, before = c.formula](Values& v) {
    before(v);
    std::map<double, std::vector<double>> tokens_of;
    for (std::int64_t n = 0; n < tokens; ++n) tokens_of[v[ids][n]].push_back(static_cast<double>(n));
    std::int64_t i = 0, at = 0;
    v[start][0] = 0;
    for (const auto& [row, all] : tokens_of) {
      for (std::int64_t e = 0; e < width; ++e) v[d_rows][i * width + e] = 0;
      for (const double n : all) {
        for (std::int64_t e = 0; e < width; ++e)
          v[d_rows][i * width + e] += scale * v[d_x][static_cast<std::int64_t>(n) * width + e];
        v[order][at++] = n;
      }
      v[touched][i++] = row;
      v[start][i] = static_cast<double>(at);
    }
    v[count][0] = static_cast<double>(i);
  };
  return [=](const Values&, const Values& after) {
    Tensor<double> whole({rows, width}, 0);
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(after[count][0]); ++i)
      std::copy_n(&after[d_rows][i * width], width, &whole[static_cast<std::int64_t>(after[touched][i]) * width]);
    return whole;
  };
}

// [N, V, P, E], P 0: no pair table.
void embedding_case(Case& c, const Shape& s) {
  const std::int64_t tokens = s[0], vocabulary = s[1], rows = s[2], width = s[3];
  const auto ids = c.input("ids", {tokens}, ids_of(vocabulary), Stored::i32);
  const auto weight = c.input("weight", {vocabulary, width}, noise(0.25), Stored::single);
  const auto pair_ids = c.input("pair_rows", {rows ? tokens : 0}, ids_of(std::max<std::int64_t>(rows, 1)), Stored::i32);
  const auto pairs = c.input("pairs", {rows, width}, noise(0.5), Stored::single);
  const auto gain = c.input("gain", {width}, noise(0.2, 1), Stored::single);
  const auto out = c.output("out", {tokens, width}), inverse = c.output("inverse_rms", {tokens}, Stored::single);
  const auto d_out = c.updated("d_out", {tokens, width}, noise(), Stored::tested, Use::replaced);
  const auto d_gain = c.output("d_gain", {width}, Stored::single);
  const auto tables = [=](const Operands& at) { return EmbeddingRows{at[ids], at[weight], at[pair_ids], at[pairs]}; };
  c.tolerance = 1e-5;
  const double narrow = 2 * static_cast<double>(tokens * width), looked_up = (pairs ? 4 : 2) * narrow;
  c.run("embedding_forward",
        [=](auto& device, const Operands& at) {
          embedding_forward(device, {tables(at), at[gain], at[out], at[inverse]});
        },
        {0, looked_up + narrow});
  c.loss_is(out, d_out);
  c.run("embedding_backward",
        [=](auto& device, const Operands& at) {
          embedding_backward(device, {tables(at), at[gain], at[inverse], at[d_out], at[d_gain]});
        },
        {0, looked_up + 2 * narrow});
  c.formula = [=](Values& v) {
    v[d_gain] = Tensor<double>({width}, 0);
    for (std::int64_t n = 0; n < tokens; ++n) {
      std::vector<double> x;
      double squares = 0, dot = 0;
      for (std::int64_t e = 0; e < width; ++e) {
        x.push_back(v[weight][static_cast<std::int64_t>(v[ids][n]) * width + e]);
        if (pairs) x.back() += 0.25 * v[pairs][static_cast<std::int64_t>(v[pair_ids][n]) * width + e];
        squares += x.back() * x.back();
      }
      const double scale = v[inverse][n] = 1 / std::sqrt(squares / static_cast<double>(width) + 1e-5);
      for (std::int64_t e = 0; e < width; ++e) {
        const double normed = x[static_cast<std::size_t>(e)] * scale;
        v[out][n * width + e] = normed * v[gain][e];
        v[d_gain][e] += v[d_out][n * width + e] * normed;
        dot += v[d_out][n * width + e] * v[out][n * width + e] / static_cast<double>(width);
      }
      for (std::int64_t e = 0; e < width; ++e)
        v[d_out][n * width + e] = scale * (v[gain][e] * v[d_out][n * width + e] - x[static_cast<std::size_t>(e)] * scale * dot);
    }
  };
  c.gradient(gain, d_gain);
  c.gradient(weight, add_rows(c, "weight", ids, vocabulary, d_out, 1));
  if (pairs) c.gradient(pairs, add_rows(c, "pairs", pair_ids, rows, d_out, kPairScale));
}

const Listed embedding_entry{{
    .name = "embedding",
    .shapes = {{1, 2, 0, 32}, {60, 23, 31, 64}, {300, 97, 40, 64}},
    .gpu_shapes = {{2000, 3000, 0, 1056}, {9001, 65'536, 250'000, 32}, {700, 50, 65'536, 1024}, {90, 50, 70, 4096}},
    .timed = {{8192, 32'000, 65'536, 1024}},
    .body = embedding_case,
}};

// [B, T, P]: a token after token 0 starts a document.
void pair_rows_case(Case& c, const Shape& s) {
  const std::int64_t window = s[1], tokens = s[0] * window, table = s[2];
  const auto ids = c.input("ids", {tokens}, below(65'536), Stored::i32);
  const auto first = c.input("first", {tokens}, documents_in(window), Stored::i32);
  const auto last = c.scratch("last", {1}, Stored::i32);
  const auto rows = c.output("rows", {tokens}, Stored::i32);
  c.run("pair_rows", [=](auto& device, const Operands& at) {
    pair_rows(device, {at[ids], at[first], window, table, {}, at[rows]});
  });
  std::vector<bool> starts;
  for (std::int64_t n = 0; n < tokens; ++n) starts.push_back(c.initial(first, DType::f64)[n] == static_cast<double>(n % window));
  c.also("token by token", [=](auto& device, const Operands& at) {
    for (std::int64_t n = 0; n < tokens; ++n) {
      if (starts[static_cast<std::size_t>(n)]) clear(device, at[last]);
      pair_rows(device, {at[ids].rows(n, 1), {}, 0, table, at[last], at[rows].rows(n, 1)});
    }
  });
  c.formula = [=](Values& v) {
    for (std::int64_t n = 0; n < tokens; ++n) {
      const auto id = static_cast<std::int64_t>(v[ids][n]);
      const auto before = starts[static_cast<std::size_t>(n)] ? 0 : static_cast<std::int64_t>(v[ids][n - 1]);
      v[rows][n] = static_cast<double>((id * 1000003 + before * 998244353) % table);
    }
  };
}

const Listed pair_rows_entry{{
    .name = "pair_rows",
    .shapes = {{1, 1, 7}, {5, 10, 1}, {5, 100, 300}, {3, 7, 250'000}},
    .timed = {{32, 256, 65'536}},
    .body = pair_rows_case,
}};

}  // namespace
}  // namespace neurogen
