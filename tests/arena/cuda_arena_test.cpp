// The arena on a GPU, in one block and with a block for every buffer.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "arena/arena.h"
#include "arena/error.h"

namespace neurogen {
namespace {

class CudaArena : public testing::Test {
 protected:
  void SetUp() override {
    int gpus = 0;
    if (cudaGetDeviceCount(&gpus) != cudaSuccess || gpus == 0) GTEST_SKIP() << "no GPU";
  }
  Plan plan(Bytes budget = 1 << 20) const {
    PlanRequest request{.operations = {"a", "b"}, .budget = budget, .overlay = false};
    request.buffers = {{.name = "weight", .dtype = DType::f32, .shape = {5, 20}, .kind = BufferKind::persistent},
                       {.name = "copy", .dtype = DType::bf16, .shape = {5, 20}, .kind = BufferKind::derived},
                       {.name = "batch", .dtype = DType::u16, .shape = {33}, .arena = ArenaKind::host, .kind = BufferKind::derived},
                       {.name = "nothing", .dtype = DType::f32, .shape = {0, 4}, .first_op = 0, .last_op = 1},
                       {.name = "x", .dtype = DType::f64, .shape = {64}, .first_op = 0, .last_op = 0},
                       {.name = "y", .dtype = DType::bf16, .shape = {7}, .first_op = 1, .last_op = 1}};
    return make_plan(std::move(request));
  }
};

TEST_F(CudaArena, IsOneBlock) {
  const std::int64_t before = Block::gpu_requests();
  const Arena arena = Arena::on_gpu(plan());
  EXPECT_EQ(Block::gpu_requests() - before, 2);
  EXPECT_EQ(arena.block(ArenaKind::device).size(), arena.plan().device.bytes);
  for (std::size_t i = 0; i < arena.plan().buffers.size(); ++i) {
    const Buffer& buffer = arena.plan().buffers[i];
    EXPECT_EQ(arena.view(i).as<std::byte>(), arena.data(buffer.arena) + buffer.offset) << buffer.name;
  }
}

TEST_F(CudaArena, IsABlockForEveryBuffer) {
  const std::int64_t before = Block::gpu_requests();
  const Arena arena = Arena::on_gpu(plan(), true);
  EXPECT_EQ(Block::gpu_requests() - before, 6);
  EXPECT_EQ(arena.data(ArenaKind::device), nullptr);
  std::map<std::byte*, Bytes> taken;  // by address
  for (std::size_t i = 0; i < arena.plan().buffers.size(); ++i) {
    const Buffer& buffer = arena.plan().buffers[i];
    const TensorView view = arena.view(i);
    ASSERT_TRUE(view) << buffer.name;
    EXPECT_EQ(static_cast<Bytes>(view.elements()) * size_of(view.dtype), buffer.bytes) << buffer.name;
    EXPECT_TRUE(taken.emplace(view.as<std::byte>(), buffer.bytes).second) << buffer.name << " lies where another does";
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.data) % kAlignment, 0u) << buffer.name;
    if (buffer.kind == BufferKind::transient) continue;
    std::vector<std::byte> bytes(buffer.bytes, std::byte{1});
    ASSERT_EQ(cudaMemcpy(bytes.data(), view.data, bytes.size(), cudaMemcpyDefault), cudaSuccess) << buffer.name;
    EXPECT_EQ(std::count(bytes.begin(), bytes.end(), std::byte{0}), static_cast<std::ptrdiff_t>(bytes.size())) << buffer.name;
  }
  std::byte* end = nullptr;
  for (const auto& [begin, bytes] : taken) {
    EXPECT_GE(begin, end);
    end = begin + bytes;
  }
}

TEST_F(CudaArena, RefusesAPlanThatDoesNotFit) {
  EXPECT_THROW(Arena::on_gpu(plan(1)), Error);
  EXPECT_THROW(Arena::on_gpu(plan(1), true), Error);
}

}  // namespace
}  // namespace neurogen
