#include "kernels/checksum.h"
#include "tests/kernels/gpu.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

using CudaChecksum = CudaTest;

TEST_F(CudaChecksum, IsThatOfTheCpu) {
  for (const std::int64_t bytes : {1, 7, 8, 100, 65'536, 65'537, 3'000'003}) {
    std::vector<std::uint8_t> data(static_cast<std::size_t>(bytes));
    std::mt19937 random(static_cast<unsigned>(bytes));
    for (std::uint8_t& byte : data) byte = static_cast<std::uint8_t>(random());
    const Bytes first = align_up(static_cast<Bytes>(bytes));
    const Block there = Block::on_gpu(first + 256);
    gpu().copy_now(data.data(), there.data(), data.size());
    Tensor<std::int64_t> sums({2}, 0), expected = sums;
    const auto view = [&](void* at) { return make_view(at, DType::u8, {bytes}); };
    checksum(device_of(2), {{view(data.data()), view(data.data()).rows(0, bytes / 2)}, expected.view()});
    checksum(gpu(),
             {{view(there.data()), view(there.data()).rows(0, bytes / 2)}, make_view(there.data() + first, DType::i64, {2})});
    gpu().copy_now(there.data() + first, sums.data.data(), 16);
    EXPECT_EQ(sums.data, expected.data) << bytes;
  }
}

}  // namespace
}  // namespace neurogen
