#include "tests/kernels/operations/wrong.h"

#include <ostream>

#include "kernels/copy.h"
#include "kernels/matmul.h"

namespace neurogen {

std::ostream& operator<<(std::ostream& out, How how) {
  constexpr const char* kNames[] = {"not at all",        "another value",      "wrong sign",
                                    "one element after", "one element before", "beside a row",
                                    "into an input",     "one row missing",    "sum with what was there",
                                    "by chance",         "another way"};
  return out << "wrong: " << kNames[static_cast<int>(how)];
}

std::vector<Wrong> wrong_operations() {
  return {{How::not_at_all, {}},
          {How::another_value, {"formula", "gradients", "values"}},
          {How::wrong_sign, {"gradients"}},
          {How::one_element_after, {"writes"}},
          {How::one_element_before, {"writes"}},
          {How::beside_a_row, {"writes"}},
          {How::into_an_input, {"writes"}},
          {How::one_row_missing, {"formula", "gradients", "writes"}},
          {How::sum_with_what_was_there, {"formula", "gradients", "writes"}},
          {How::by_chance, {"bits"}},
          {How::another_way, {"bits"}}};
}

Case product_that(How how) {
  constexpr std::int64_t m = 6, n = 8, k = 16;
  Case c;
  c.name = "wrong";
  const auto a = c.input("a", {m, k}), b = c.input("b", {k, n}), d_c = c.input("d_c", {m, n});
  const auto product = c.output("c", {m, n}, Stored::single), d_a = c.output("d_a", {m, k}, Stored::single);
  if (how == How::beside_a_row) c[product].after = 8;
  c.run("product", [=, runs = std::make_shared<int>(0)](auto& device, const Operands& at) {
    const TensorView whole = at[product], part = how == How::one_row_missing ? whole.rows(0, m - 1) : whole;
    const auto write = [&](std::int64_t from, std::int64_t count) {
      clear(device,
            make_view(whole.as<std::byte>() + from * static_cast<std::int64_t>(size_of(whole.dtype)), whole.dtype, {count}));
    };
    if (how == How::one_element_after) write(0, m * n + 1);
    if (how == How::one_element_before) write(-1, 1);
    if (how == How::beside_a_row) write(n, 1);
    matmul(device,
           {at[a].rows(0, part[0]), at[b], part, Transpose::no, Transpose::no, how == How::sum_with_what_was_there ? 1.0 : 0.0});
    if (how == How::another_value && at[a].dtype == DType::f64)
      matmul(device, {at[a], at[b], whole, Transpose::no, Transpose::no, 1});
    if (how == How::by_chance && ++*runs % 2 == 0) write(n, 1);
    matmul(device, {at[d_c], at[b], at[d_a], Transpose::no, Transpose::yes});
    if (how == How::into_an_input) clear(device, at[d_c]);
  });
  c.loss_is(product, d_c);
  c.also("another way", [=](auto& device, const Operands& at) {
    matmul(device, {at[a], at[b], at[product]});
    matmul(device, {at[d_c], at[b], at[d_a], Transpose::no, Transpose::yes});
    if (how == How::another_way) clear(device, at[product].rows(0, 1));
  });
  c.formula = [=](Values& v) {
    v[product] = Tensor<double>({m, n}, 0);
    for (std::int64_t i = 0; i < m * n * k; ++i)
      v[product][i / k / n * n + i / k % n] += v[a][i / k / n * k + i % k] * v[b][i % k * n + i / k % n];
  };
  c.formula_gives = {product};
  c.gradient(a, [=](const Values&, const Values& after) {
    Tensor<double> gradient = after[d_a];
    for (double& x : gradient.data) x *= how == How::wrong_sign ? -1 : 1;
    return gradient;
  });
  return c;
}

}  // namespace neurogen
