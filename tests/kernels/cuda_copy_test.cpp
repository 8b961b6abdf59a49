#include "kernels/copy.h"
#include "tests/kernels/gpu.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

using CudaCopy = CudaTest;

TEST_F(CudaCopy, MovesBetweenHostAndGpu) {
  const auto x = Tensor<float>::noise({1000}, 2);
  const Block pinned = Block::pinned(8000), there = Block::on_gpu(4000);
  std::memcpy(pinned.data(), x.data.data(), 4000);
  const auto view = [](std::byte* data) { return make_view(data, DType::f32, {1000}); };
  copy(gpu(), view(pinned.data()), view(there.data()));
  copy(gpu(), view(there.data()), view(pinned.data() + 4000));
  gpu().synchronize();
  EXPECT_EQ(std::memcmp(x.data.data(), pinned.data() + 4000, 4000), 0);
}

}  // namespace
}  // namespace neurogen
