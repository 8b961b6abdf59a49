#include "kernels/matmul.h"

#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// [m, n, k, transpose a, transpose b, beta, c is of the factors' type]
std::vector<Shape> products(const std::vector<Shape>& products) {
  std::vector<Shape> all;
  for (const Shape& p : products)
    for (std::int64_t bits = 0; bits < 16; ++bits)
      all.push_back({p[0], p[1], p[2], bits & 1, bits >> 1 & 1, bits >> 2 & 1, bits >> 3});
  return all;
}

void matmul_case(Case& c, const Shape& s) {
  const std::int64_t m = s[0], n = s[1], k = s[2];
  const bool ta = s[3] != 0, tb = s[4] != 0;
  const double beta = static_cast<double>(s[5]), scale = tb ? 0.75 : 1;
  const auto a = c.input("a", ta ? Shape{k, m} : Shape{m, k}), b = c.input("b", tb ? Shape{n, k} : Shape{k, n});
  const Stored stored = s[6] != 0 ? Stored::tested : Stored::single;
  const auto product = beta == 0 ? c.output("c", {m, n}, stored) : c.updated("c", {m, n}, noise(10), stored);
  c[a].before = c[product].before = c[product].after = 8;
  c.tolerance = 1e-5;  // tensor cores cut sums off instead of rounding them
  c.run("matmul",
        [=](auto& device, const Operands& at) {
          matmul(device, {at[a], at[b], at[product], Transpose(ta), Transpose(tb), beta, scale});
        },
        {2 * static_cast<double>(m * n * k)});
  if (m * n * k > 2'000'000) return;
  c.formula = [=](Values& v) {
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = beta == 0 ? 0 : v[product][i * n + j];
        for (std::int64_t l = 0; l < k; ++l) sum += scale * v[a][ta ? l * m + i : i * k + l] * v[b][tb ? j * k + l : l * n + j];
        v[product][i * n + j] = sum;
      }
  };
}

const Listed matmul_entry{{
    .name = "matmul",
    .shapes = products({{1, 8, 16}, {56, 72, 40}}),
    .cpu_shapes = {{1, 1, 1, 0, 0, 0, 0},
                   {5, 7, 3, 1, 0, 1, 0},
                   {33, 700, 65, 0, 1, 0, 0},
                   {700, 1500, 130, 1, 1, 0, 0},
                   {100, 9, 300, 0, 0, 1, 0},
                   {3, 15, 129, 0, 0, 0, 0}},
    .gpu_shapes = products({{300, 72, 40}, {264, 1280, 512}}),
    .timed = {{8192, 1280, 8192, 0, 1, 0, 1}, {8192, 8192, 1280, 0, 0, 1, 1}, {1280, 8192, 8192, 1, 0, 0, 0}},
    .body = matmul_case,
}};

// [C, m, n, k, transpose a, transpose b]
const Listed matmul_batch{{
    .name = "matmul_batch",
    .shapes = {{3, 40, 56, 24, 0, 0}, {2, 48, 48, 80, 0, 1}, {2, 48, 48, 80, 1, 0}, {1, 8, 8, 8, 1, 1}},
    .cpu_shapes = {{3, 300, 650, 40, 1, 1}},
    .timed = {{8, 512, 512, 512, 0, 1}, {8, 512, 2048, 512, 0, 0}},
    .body =
        [](Case& c, const Shape& s) {
          const std::int64_t count = s[0], m = s[1], n = s[2], k = s[3];
          const auto ta = Transpose(s[4] != 0), tb = Transpose(s[5] != 0);
          const auto a = c.input("a", ta == Transpose::yes ? Shape{count, k, m} : Shape{count, m, k}),
                     b = c.input("b", tb == Transpose::yes ? Shape{count, n, k} : Shape{count, k, n});
          const auto product = c.output("c", {count, m, n});
          c.run("matmul",
                [=](auto& device, const Operands& at) {
                  matmul(device, {at[a], at[b], at[product], ta, tb, 0});
                },
                {2 * static_cast<double>(count * m * n * k)});
          // A GPU's library may divide a batch's products otherwise than a single one.
          c.also("one after another", [=](auto& device, const Operands& at) {
            if constexpr (kOnCpu<std::remove_reference_t<decltype(device)>>) {
              const auto one = [](const TensorView& x, std::int64_t i) { return x.rows(i, 1).reshaped({x[1], x[2]}); };
              for (std::int64_t i = 0; i < count; ++i)
                matmul(device, {one(at[a], i), one(at[b], i), one(at[product], i), ta, tb, 0});
            } else {
              matmul(device, {at[a], at[b], at[product], ta, tb, 0});
            }
          });
          if (m * n * k > 200'000) return;
          c.formula = [=](Values& v) {
            for (std::int64_t i = 0; i < count; ++i)
              for (std::int64_t r = 0; r < m; ++r)
                for (std::int64_t j = 0; j < n; ++j) {
                  double sum = 0;
                  for (std::int64_t l = 0; l < k; ++l)
                    sum += v[a][i * m * k + (ta == Transpose::yes ? l * m + r : r * k + l)] *
                           v[b][i * k * n + (tb == Transpose::yes ? j * k + l : l * n + j)];
                  v[product][(i * m + r) * n + j] = sum;
                }
          };
        },
}};

}  // namespace
}  // namespace neurogen
