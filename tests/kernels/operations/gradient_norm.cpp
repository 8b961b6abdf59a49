#include "kernels/gradient_norm.h"

#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// [rows of the first tensor that count, limit]
void gradient_norm_case(Case& c, const Shape& s) {
  struct One {
    Id x;
    std::int64_t counted;
  };
  const auto rows = c.input("rows", {1}, constant(static_cast<double>(s[0])), Stored::i32);
  const auto first_rows = [=](Tensor<double>& x, Random& random) {
    noise(0.3)(x, random);
    std::fill(x.data.begin() + s[0] * 1001, x.data.end(), NAN);
  };
  const std::vector<One> all = {{c.input("a", {37, 1001}, first_rows, Stored::single), s[0] * 1001},
                                {c.input("b", {5}, noise(2), Stored::single), 5},
                                {c.input("c", {kNormChunk * 2}, noise(), Stored::single), kNormChunk * 2}};
  const auto partials = c.output("partials", {6}, Stored::f64), norm = c.output("norm", {2}, Stored::single);
  const auto control = c.control({.loss_scale = 64});
  const double limit = static_cast<double>(s[1]);
  c.run("sum_of_squares", [=](auto& device, const Operands& at) {
    sum_of_squares(device, {{{at[all[0].x], at[rows]}, {at[all[1].x], {}}, {at[all[2].x], {}}}, at[partials]});
  });
  c.run("clip_factor", [=](auto& device, const Operands& at) {
    clip_factor(device, {at[partials], limit, at[norm], at[control]});
  });
  c.formula = [=](Values& v) {
    std::int64_t first = 0;
    double squares = 0;
    for (const One& one : all) {
      const auto elements = static_cast<std::int64_t>(v[one.x].data.size());
      for (std::int64_t i = 0; i < elements; ++i) {
        double& partial = v[partials][first + i / kNormChunk];
        if (i % kNormChunk == 0) partial = 0;
        const double square = i < one.counted ? v[one.x][i] * v[one.x][i] : 0;
        partial += square, squares += square;
      }
      first += norm_partials(elements);
    }
    v[norm][0] = std::sqrt(squares) / 64;
    v[norm][1] = std::min(1.0, limit / (v[norm][0] + 1e-6)) / 64;
  };
}

const Listed gradient_norm_entry{{
    .name = "gradient_norm",
    .shapes = {{11, 1}, {37, 1000}, {1, 0}},
    .timed = {{37, 1}},
    .body = gradient_norm_case,
}};

}  // namespace
}  // namespace neurogen
