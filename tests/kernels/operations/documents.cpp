#include "kernels/documents.h"

#include "tests/kernels/operations/operation.h"

namespace neurogen {
namespace {

// [B, T, token that ends a document]
void documents_case(Case& c, const Shape& s) {
  const std::int64_t window = s[1], tokens = s[0] * window, end = s[2];
  const auto ids = c.input("ids", {tokens}, below(9), Stored::i32), first = c.output("first", {tokens}, Stored::i32);
  c.run("documents", [=](auto& device, const Operands& at) { documents(device, {at[ids], window, end, at[first]}); });
  c.formula = [=](Values& v) {
    for (std::int64_t n = 0; n < tokens; ++n) {
      const std::int64_t t = n % window;
      const bool starts = t == 0 || v[ids][n - 1] == static_cast<double>(end);
      v[first][n] = starts ? static_cast<double>(t) : v[first][n - 1];
    }
  };
}

const Listed documents_entry{{
    .name = "documents",
    .shapes = {{1, 1, 0}, {5, 1, 0}, {5, 31, 0}, {5, 32, -1}, {5, 33, 8}, {5, 100, 3}, {5, 256, 0}},
    .timed = {{32, 256, 0}},
    .body = documents_case,
}};

}  // namespace
}  // namespace neurogen
