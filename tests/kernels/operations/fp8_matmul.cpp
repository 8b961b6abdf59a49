#include "kernels/fp8_matmul.h"

#include <cmath>

#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// The numbers of the type by their bits: 4 of exponent, 3 of mantissa; the last pattern is NaN.
double fp8_of(int bits) {
  const int exponent = bits >> 3, mantissa = bits & 7;
  return exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
}

double nearest_fp8(double x) {
  const double size = std::min(std::abs(x), 448.0);
  int best = 0;
  for (int bits = 0; bits < 127; ++bits) {
    const double distance = std::abs(fp8_of(bits) - size) - std::abs(fp8_of(best) - size);
    if (distance < 0 || (distance == 0 && bits % 2 == 0)) best = bits;
  }
  return std::copysign(fp8_of(best), x);
}

// [m, n, k, rows of b at a time]
void fp8_matmul_case(Case& c, const Shape& s) {
  const std::int64_t m = s[0], n = s[1], k = s[2], rows = s[3];
  const auto wide = [](Tensor<double>& x, Random& random) {
    noise(2)(x, random);
    x[0] = 100, x[1] = -28.5, x[2] = 1e-4;  // beyond the type, at its end, among its smallest
  };
  const auto a = c.input("a", {m, k}, wide), b = c.input("b", {n, k}, noise(0.05)), product = c.output("c", {m, n}),
             a8 = c.scratch("a8", {m, k}, Stored::u8), b8 = c.scratch("b8", {rows, k}, Stored::u8),
             workspace = c.scratch("workspace", {1 << 20}, Stored::u8);
  c[product].before = c[product].after = 16;
  c.tolerance = 1e-3;  // tensor cores add such products with 14 bits before they promote the sum
  c.run("fp8_matmul",
        [=](auto& device, const Operands& at) {
          fp8_matmul(device, {at[a], at[b], at[product], at[a8], at[b8], at[workspace]});
        },
        {2 * static_cast<double>(m * n * k)});
  if (m * n * k > 2'000'000) return;
  c.formula = [=](Values& v) {
    Tensor<double> low_a = v[a], low_b = v[b];
    for (double& x : low_a.data) x = nearest_fp8(16 * x);
    for (double& x : low_b.data) x = nearest_fp8(256 * x);
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (std::int64_t l = 0; l < k; ++l) sum += low_a[i * k + l] * low_b[j * k + l];
        v[product][i * n + j] = sum / 4096;
      }
  };
}

const Listed fp8_matmul_entry{{
    .name = "fp8_matmul",
    .shapes = {{1, 16, 16, 16}, {37, 80, 64, 32}},
    .gpu_shapes = {{264, 1280, 512, 512}},
    .timed = {{8192, 32000, 8192, 4096}},
    .body = fp8_matmul_case,
    .types = {DType::bf16},
    .bf16_capability = kFp8Capability,
}};

}  // namespace
}  // namespace neurogen
