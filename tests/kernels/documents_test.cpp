#include "kernels/documents.h"

#include "arena/error.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

std::vector<std::int32_t> firsts(std::vector<std::int32_t> ids, std::int64_t window, std::int64_t document_end) {
  const Shape shape{static_cast<std::int64_t>(ids.size())};
  Tensor<std::int32_t> tokens(shape, 0), first = Tensor<std::int32_t>::poisoned(shape);
  tokens.data = std::move(ids);
  documents(device_of(2), {.ids = tokens.view(), .window = window, .document_end = document_end, .first = first.view()});
  return first.data;
}

TEST(Documents, TheTokenAfterAnEndStartsAfreshAndWindowsAreApart) {
  EXPECT_EQ(firsts({5, 9, 1, 1, 9, 2, 3, 4}, 4, 9), (std::vector<std::int32_t>{0, 0, 2, 2, 0, 1, 1, 1}));
  EXPECT_EQ(firsts({9, 9, 9, 9, 9, 9}, 3, 9), (std::vector<std::int32_t>{0, 1, 2, 0, 1, 2}));
  EXPECT_EQ(firsts({1, 2, 3, 4}, 2, -1), (std::vector<std::int32_t>{0, 0, 0, 0}));
}

TEST(Documents, RefusesPartsOfWindows) { EXPECT_THROW(firsts({1, 2, 3}, 2, -1), Error); }

}  // namespace
}  // namespace neurogen
