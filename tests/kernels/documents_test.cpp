#include "kernels/documents.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

TEST(Documents, RefusesPartsOfWindows) {
  Tensor<std::int32_t> ids({3}, 1), first = ids;
  EXPECT_THROW(documents(device_of(1), {.ids = ids.view(), .window = 2, .document_end = -1, .first = first.view()}), Error);
}

}  // namespace
}  // namespace neurogen
