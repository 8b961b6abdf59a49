#include "kernels/embedding.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

TEST(PairRows, RefusesATableWithoutRowsAndAStreamOfSeveralTokens) {
  Tensor<std::int32_t> ids({8}, 0), first = ids, rows = ids;
  EXPECT_THROW(pair_rows(device_of(1), {ids.view(), first.view(), 4, 0, {}, rows.view()}), Error);
  EXPECT_THROW(pair_rows(device_of(1), {ids.view(), {}, 4, 7, ids.view(), rows.view()}), Error);
}

}  // namespace
}  // namespace neurogen
