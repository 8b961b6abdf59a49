#include "kernels/token_embedding.h"

#include "kernels/embedding.h"
#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// [N, T]
const Listed token_places_{{
    .name = "token_places",
    .shapes = {{1, 1}, {51, 17}, {600, 300}},
    .timed = {{8192, 1024}},
    .body =
        [](Case& c, const Shape& s) {
          const std::int64_t tokens = s[0], window = s[1];
          const auto first = c.input("first", {tokens}, documents_in(window), Stored::i32);
          const auto places = c.output("places", {tokens}, Stored::i32);
          c.run("token_places", [=](auto& device, const Operands& at) {
            token_places(device, {at[first], window, {}, 0, at[places]});
          });
          c.formula = [=](Values& v) {
            for (std::int64_t n = 0; n < tokens; ++n) v[places][n] = static_cast<double>(n % window) - v[first][n];
          };
        },
}};

// [tokens so far, position of the document's first, most, texts]
const Listed place_in_a_stream{{
    .name = "token_places_of_a_stream",
    .shapes = {{0, 0, 1, 1}, {1007, 1000, 14, 3}, {1007, 1000, 5, 2}},
    .body =
        [](Case& c, const Shape& s) {
          const std::int64_t most = s[2];
          const auto position =
              c.input("position", {2}, values({static_cast<double>(s[0]), static_cast<double>(s[1])}), Stored::i64);
          const auto places = c.output("places", {s[3]}, Stored::i32);
          c.run("token_places", [=](auto& device, const Operands& at) {
            token_places(device, {{}, 0, at[position], most, at[places]});
          });
          c.formula = [=](Values& v) {
            std::fill(v[places].data.begin(), v[places].data.end(), static_cast<double>(std::min(s[0] - s[1], most)));
          };
        },
}};

// Adds d_x to the gradient of a whole table, by the rows that its tokens touch.
Id add_to_table(Case& c, const std::string& name, Id rows, std::int64_t height, Id d_x) {
  const std::int64_t tokens = c[rows].shape[0], width = c[d_x].shape[1], most = std::min(tokens, height);
  const auto scratch = [&](const char* part, std::int64_t n) { return c.scratch(name + part, {n}, Stored::i32); };
  const auto histogram = scratch(".histogram", height), touched = scratch(".rows", most), start = scratch(".row_start", most + 1),
             order = scratch(".order", tokens), count = scratch(".count", 1);
  const auto d_table = c.updated("d_" + name, {height, width}, noise(), Stored::single);
  c.run(name + ".row_gradients", [=](auto& device, const Operands& at) {
    touched_rows(device, {at[rows], height, at[histogram], at[touched], at[start], at[order], at[count]});
    row_gradients(device, {at[d_x], at[start], at[order], at[count], 1, at[d_table], at[touched]});
  });
  c.formula = [=, before = c.formula](Values& v) {
    before(v);
    for (std::int64_t i = 0; i < tokens * width; ++i)
      v[d_table][static_cast<std::int64_t>(v[rows][i / width]) * width + i % width] += v[d_x][i];
  };
  return d_table;
}

// [N, V, context, D, norm, tables]; context 0: no positions; tables 1: in bf16, 2: in f16.
const Listed token_embedding{{
    .name = "token_embedding",
    .shapes = {{1, 2, 0, 8, 0, 0},
               {36, 17, 15, 40, 1, 0},
               {36, 17, 15, 40, 0, 1},
               {36, 17, 15, 40, 0, 0},
               {17, 40, 0, 512, 1, 2},
               {17, 40, 0, 512, 1, 0},
               {300, 17, 64, 24, 1, 0},
               {17, 300, 9, 1024, 1, 0}},
    .cpu_shapes = {{20, 9, 7, 5, 1, 0}, {20, 9, 7, 5, 1, 2}},
    .gpu_shapes =
        {{300, 1000, 300, 520, 1, 1}, {300, 97, 65, 2048, 0, 0}, {300, 97, 65, 4104, 1, 2}, {5000, 3000, 1024, 1024, 1, 0}},
    .timed = {{8192, 32'000, 0, 512, 1, 0}, {8192, 50'257, 1024, 768, 0, 0}, {8192, 50'257, 1024, 768, 0, 1}},
    .body =
        [](Case& c, const Shape& s) {
          const std::int64_t tokens = s[0], vocabulary = s[1], context = s[2], width = s[3];
          const bool norm = s[4] != 0;
          const Stored tables = std::array{Stored::single, Stored::bf16, Stored::f16}[static_cast<std::size_t>(s[5])];
          const auto ids = c.input("ids", {tokens}, below(vocabulary), Stored::i32),
                     places = c.input("places", {context > 0 ? tokens : 0}, below(context), Stored::i32);
          const auto weight = c.input("weight", {vocabulary, width}, noise(), tables),
                     positions = c.input("positions", {context, width}, noise(), tables);
          const auto out = c.output("out", {tokens, width}, Stored::gradient),
                     inverse = c.output("inverse", shape_if(norm, {tokens}), Stored::single);
          const auto d_out = c.updated("d_out", {tokens, width}, noise(), Stored::gradient, Use::replaced);
          c.run("token_embedding_forward", [=](auto& device, const Operands& at) {
            token_embedding_forward(device, {at[ids], at[weight], at[places], at[positions], 1e-3, at[out], at[inverse]});
          });
          c.loss_is(out, d_out);
          if (norm)
            c.run("token_embedding_backward", [=](auto& device, const Operands& at) {
              token_embedding_backward(device, {at[out], at[inverse], at[d_out]});
            });
          c.formula = [=](Values& v) {
            for (std::int64_t n = 0; n < tokens; ++n) {
              double *const x = &v[out][n * width], *const d = &v[d_out][n * width];
              for (std::int64_t i = 0; i < width; ++i) {
                x[i] = v[weight][static_cast<std::int64_t>(v[ids][n]) * width + i];
                if (positions) x[i] += v[positions][static_cast<std::int64_t>(v[places][n]) * width + i];
              }
              if (!norm) continue;
              const double scale = 1 / std::sqrt(std::inner_product(x, x + width, x, 0.0) / static_cast<double>(width) + 1e-3);
              const double along = std::inner_product(x, x + width, d, 0.0) * scale / static_cast<double>(width);
              v[inverse][n] = scale;
              for (std::int64_t i = 0; i < width; ++i) x[i] *= scale, d[i] = scale * (d[i] - x[i] * along);
            }
          };
          const Id d_weight = add_to_table(c, "weight", ids, vocabulary, d_out),
                   d_positions = positions ? add_to_table(c, "positions", places, context, d_out) : Id{};
          if (tables != Stored::single) return;  // too coarse for differences
          c.gradient(weight, d_weight);
          if (positions) c.gradient(positions, d_positions);
        },
}};

}  // namespace
}  // namespace neurogen
