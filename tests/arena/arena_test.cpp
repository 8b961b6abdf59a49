#include "arena/arena.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <type_traits>
#include <vector>

#include "arena/error.h"

namespace neurogen {
namespace {

TEST(Block, OwnsItsMemoryAndMovesIt) {
  static_assert(!std::is_copy_constructible_v<Block> && !std::is_copy_assignable_v<Block>);
  Block first = Block::on_host(10000);
  std::byte* const data = first.data();
  EXPECT_EQ(first.size(), 10000u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 4096, 0u);
  for (Bytes i = 0; i < 10000; ++i) ASSERT_EQ(data[i], std::byte{0});
  std::memset(data, 7, 10000);

  Block second = std::move(first);
  EXPECT_EQ(first.data(), nullptr);
  EXPECT_EQ(first.size(), 0u);
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(second.data()[9999], std::byte{7});

  Block third = Block::on_host(1);
  third = std::move(second);
  EXPECT_EQ(third.data(), data);
  EXPECT_EQ(third.size(), 10000u);
  third = Block();
  EXPECT_EQ(Block::on_host(0).data(), nullptr);
}

TEST(Block, BeginsWithAFile) {
  std::FILE* file = std::tmpfile();
  std::vector<unsigned char> bytes(20000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(i % 251 + 1);
  ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
  std::fflush(file);
  for (const Bytes size : {0u, 1u, 4095u, 4096u, 4097u, 9000u, 12288u}) {
    Block block = Block::on_host(12288, {fileno(file), 4096, size});
    EXPECT_EQ(block.mapped(), size / 4096 * 4096);
    EXPECT_EQ(std::memcmp(block.data(), bytes.data() + 4096, size), 0);
    for (Bytes i = size; i < 12288; ++i) ASSERT_EQ(block.data()[i], std::byte{0});  // including the pages' tails
    std::memset(block.data(), 0, 12288);
  }
  std::vector<unsigned char> after(bytes.size());
  std::rewind(file);
  ASSERT_EQ(std::fread(after.data(), 1, after.size(), file), after.size());
  EXPECT_EQ(after, bytes);
  EXPECT_THROW(Block::on_host(12288, {fileno(file), 16384, 4000}), Error);  // longer than the file
  EXPECT_THROW(Block::on_host(12288, {-1, 0, 4096}), Error);
  std::fclose(file);
}

TEST(Block, IsReallyThereAndGivenBack) {
  const auto resident = [] {  // pages of this process
    long size = 0, pages = 0;
    FILE* file = std::fopen("/proc/self/statm", "r");
    EXPECT_EQ(std::fscanf(file, "%ld %ld", &size, &pages), 2);
    std::fclose(file);
    return pages;
  };
  const long before = resident();
  {
    const Block block = Block::on_host(64 << 20);
    EXPECT_GE(resident() - before, (60 << 20) / 4096);
  }
  EXPECT_LE(resident() - before, (4 << 20) / 4096);
}

TEST(Block, SaysHowMuchTheSystemRefused) {
  try {
    Block::on_host(1ull << 60);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("1,152,921,504,606,846,976 bytes"), std::string::npos) << error.what();
    EXPECT_EQ(error.status(), Error::kRunTime);
  }
}

PlanRequest request() {
  PlanRequest request{.operations = {"a", "b"}, .budget = 100000};
  request.buffers = {{.name = "weight", .dtype = DType::f32, .shape = {5, 20}, .kind = BufferKind::persistent},
                     {.name = "batch", .dtype = DType::u16, .shape = {33}, .arena = ArenaKind::host, .kind = BufferKind::derived},
                     {.name = "nothing", .dtype = DType::f32, .shape = {0, 4}, .first_op = 0, .last_op = 1},
                     {.name = "x", .dtype = DType::f64, .shape = {2, 3, 4}, .first_op = 0, .last_op = 0},
                     {.name = "y", .dtype = DType::bf16, .shape = {7}, .first_op = 1, .last_op = 1},
                     {.name = "z", .dtype = DType::i32, .shape = {}, .first_op = 0, .last_op = 1}};
  return request;
}

TEST(Arena, ViewsLieWhereThePlanSays) {
  const Arena arena(make_plan(request()));
  const Plan& plan = arena.plan();
  EXPECT_EQ(arena.block(ArenaKind::device).size(), plan.device.bytes);
  EXPECT_EQ(arena.block(ArenaKind::host).size(), 256u);
  for (std::size_t i = 0; i < plan.buffers.size(); ++i) {
    const Buffer& buffer = plan.buffers[i];
    const TensorView view = arena.view(i);
    EXPECT_EQ(view.as<std::byte>(), arena.data(buffer.arena) + buffer.offset) << buffer.name;
    EXPECT_EQ(view.dtype, buffer.dtype);
    EXPECT_EQ(view.rank, static_cast<int>(buffer.shape.size()));
    for (std::size_t d = 0; d < buffer.shape.size(); ++d) EXPECT_EQ(view.shape[d], buffer.shape[d]);
    EXPECT_TRUE(view.contiguous());
    EXPECT_EQ(static_cast<Bytes>(view.elements()) * size_of(view.dtype), buffer.bytes);
    std::memset(view.data, 1, buffer.bytes);
  }
  EXPECT_EQ(arena.view(3).data, arena.view(4).data);  // x and y share
  const auto* device = reinterpret_cast<const unsigned char*>(arena.data(ArenaKind::device));
  EXPECT_EQ(std::count(device, device + plan.device.bytes, 1), 400 + 192 + 4);
}

TEST(Arena, KeepsItsViewsWhenItMoves) {
  Arena arena(make_plan(request()));
  void* const data = arena.view(3).data;
  const Arena moved = std::move(arena);
  EXPECT_EQ(moved.view(3).data, data);
  *static_cast<double*>(data) = 1;
}

TEST(Arena, RefusesAPlanThatDoesNotFit) {
  PlanRequest tight = request();
  tight.budget = make_plan(tight).total();
  EXPECT_NO_THROW(Arena(make_plan(tight)));
  --tight.budget;
  try {
    Arena refused(make_plan(tight));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), Error::kMisuse);
  }
}

}  // namespace
}  // namespace neurogen
