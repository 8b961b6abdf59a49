#include "kernels/copy.h"

#include "kernels/cast.h"
#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// [rows, columns]
void copy_case(Case& c, const Shape& s) {
  const auto from = c.input("from", s), to = c.output("to", s), cleared = c.output("cleared", s);
  c.run("copy", [=](auto& device, const Operands& at) { copy(device, at[from], at[to]); });
  c.run("clear", [=](auto& device, const Operands& at) { clear(device, at[cleared]); });
  c.formula = [=](Values& v) { v[to] = v[from], v[cleared] = Tensor<double>(s, 0); };
}

const Listed copy_entry{{
    .name = "copy",
    .shapes = {{1, 1}, {70, 30}, {700, 501}},
    .timed = {{8192, 8192}},
    .body = copy_case,
}};

// Lengths.
void clear_several_case(Case& c, const Shape& s) {
  std::vector<Id> all;
  for (const std::int64_t n : s) all.push_back(c.output("x", {n}, Stored::f32));
  c.run("clear", [=](auto& device, const Operands& at) {
    Several<TensorView> views;
    for (const Id id : all) views.add(at[id]);
    clear(device, views);
  });
  c.formula = [=](Values& v) {
    for (const Id id : all) std::fill(v[id].data.begin(), v[id].data.end(), 0.0);
  };
}

const Listed clear_several_entry{{
    .name = "clear_several",
    .shapes = {{4}, {4, 100, 8192, 8196, 70'000}},
    .body = clear_several_case,
}};

constexpr std::array kTypes = {Stored::f32, Stored::bf16, Stored::f16, Stored::f64};

// [rows, columns, type from, type to, strided]: the types are indices of the list above.
std::vector<Shape> casts(std::int64_t from, std::int64_t to) {
  std::vector<Shape> all;
  for (std::int64_t a = from; a < to; ++a)
    for (std::int64_t b = 0; b < to; ++b)
      for (const Shape& s : {Shape{70, 1, 1}, Shape{70, 30, 1}, Shape{70, 64, 1}, Shape{70, 200, 0}})
        all.push_back({s[0], s[1], a, b, s[2]});
  return all;
}

void cast_case(Case& c, const Shape& s) {
  const Stored stored = kTypes[static_cast<std::size_t>(s[3])];
  const auto some = [](Tensor<double>& x, Random& random) {
    noise(3)(x, random);
    constexpr double kEdges[] = {1 + 0x1p-8, 1 + 0x3p-8,      1 + 0x1p-11, 1 + 0x3p-11, 0x1p-25,  // between two neighbours
                                 0x3p-25,    65519.0,         65520.0,     0x1p-140,    -0.0,     // and at the ends of f16
                                 1e38,       3.3961775292e38, -INFINITY,   0x1p-24};
    for (std::size_t i = 0; i < x.data.size(); i += 5) x.data[i] = kEdges[i / 5 % std::size(kEdges)];
  };
  const auto from = c.input("from", {s[0], s[1]}, some, kTypes[static_cast<std::size_t>(s[2])]);
  const auto to = c.output("to", {s[0], s[1]}, stored);
  if (s[4] != 0) c[from].before = 4, c[to].before = c[to].after = 8;
  c[to].exact = true;
  c.run("cast", [=](auto& device, const Operands& at) { cast(device, at[from], at[to]); });
  c.formula = [=](Values& v) {
    for (std::int64_t i = 0; i < s[0] * s[1]; ++i) v[to][i] = rounded(v[from][i], type_of(stored, DType::f64));
  };
}

const Listed cast_entry{{
    .name = "cast",
    .shapes = casts(0, 3),
    .cpu_shapes = casts(3, 4),
    .timed = {{8192, 8192, 0, 1, 0}},
    .body = cast_case,
}};

}  // namespace
}  // namespace neurogen
