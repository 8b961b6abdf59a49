#include "kernels/causal_attention.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 8;

void attend(HeadCounts heads, std::int64_t key_columns, std::int64_t window) {
  using T = Tensor<float>;
  T q = T::noise({kTokens, 24}, 1), k = T::noise({kTokens, key_columns}, 2), v = k, out = q,
    scratch = T::poisoned({1, causal_attention_scratch(kTokens)});
  Tensor<std::int32_t> first({kTokens}, 0);
  causal_attention_forward(device_of(1),
                           {heads, q.view(), k.view(), v.view(), first.view(), window, out.view(), {}, scratch.view()});
}

TEST(CausalAttention, NeedsHeadsThatFitAndWholeWindows) {
  EXPECT_NO_THROW(attend({3, 1}, 8, 4));
  EXPECT_THROW(attend({3, 2}, 16, 4), Error) << "heads that cannot share keys";
  EXPECT_THROW(attend({3, 1}, 16, 4), Error) << "keys of another width";
  EXPECT_THROW(attend({3, 1}, 8, 5), Error) << "a part of a window";
  EXPECT_THROW(attend({3, 1}, 8, 16), Error) << "less than a window";
}

}  // namespace
}  // namespace neurogen
