#include "arena/block.h"
#include "kernels/copy.h"
#include "tests/kernels/cuda_tensor.h"

namespace neurogen {
namespace {

using CudaCopy = CudaTest;

TEST_F(CudaCopy, MovesBetweenHostAndGpuAndClears) {
  const auto x = Tensor<float>::noise({1000}, 2);
  const Block pinned = Block::pinned(8000);
  std::memcpy(pinned.data(), x.data.data(), 4000);
  const OnGpu there(DType::f32, {1000});
  copy(gpu(), make_view(pinned.data(), DType::f32, {1000}), there);
  copy(gpu(), there, make_view(pinned.data() + 4000, DType::f32, {1000}));
  gpu().synchronize();
  EXPECT_EQ(std::memcmp(pinned.data(), pinned.data() + 4000, 4000), 0);
  clear(gpu(), there);
  expect_same_values(there, Tensor<float>({1000}, 0), "cleared");
}

}  // namespace
}  // namespace neurogen
