#include "arena/tensor_view.h"

#include <gtest/gtest.h>

#include <numeric>

#include "arena/error.h"

namespace neurogen {
namespace {

TEST(TensorView, SizesAreExactAndChecked) {
  EXPECT_EQ(size_of(DType::bf16, {32000, 8192}), 524288000u);
  EXPECT_EQ(size_of(DType::u8, {3, 5}), 15u);
  EXPECT_EQ(size_of(DType::f64, {}), 8u);
  EXPECT_EQ(size_of(DType::f32, {1ll << 40, 0, 1ll << 40}), 0u);
  EXPECT_EQ(size_of(DType::u8, {1ll << 32, (1ll << 32) - 1}), 18446744069414584320u);
  EXPECT_THROW(size_of(DType::u8, {1ll << 32, 1ll << 32}), Error);
  EXPECT_THROW(size_of(DType::f32, {INT64_MAX, 2}), Error);
  EXPECT_THROW(size_of(DType::f32, {4, -1}), Error);
  EXPECT_EQ(to_string(Shape{32000, 1024}), "[32000, 1024]");
  EXPECT_EQ(to_string(Shape{}), "[]");
  for (const auto& [type, name, size] : {std::tuple{DType::f32, "f32", 4u},
                                         {DType::f64, "f64", 8u},
                                         {DType::bf16, "bf16", 2u},
                                         {DType::f16, "f16", 2u},
                                         {DType::i32, "i32", 4u},
                                         {DType::i64, "i64", 8u},
                                         {DType::u16, "u16", 2u},
                                         {DType::u8, "u8", 1u}}) {
    EXPECT_STREQ(name_of(type), name);
    EXPECT_EQ(size_of(type), size);
  }
}

TEST(TensorView, RowsAndColumnsPointIntoTheSameMemory) {
  std::vector<float> memory(5 * 7 * 3);
  std::iota(memory.begin(), memory.end(), 0.f);
  const TensorView view = make_view(memory.data(), DType::f32, {5, 21});
  EXPECT_TRUE(view.contiguous());
  EXPECT_EQ(view.elements(), 105);

  const TensorView part = view.rows(1, 3).columns(4, 6).rows(1, 2);
  EXPECT_EQ(part.as<float>()[0], 2 * 21 + 4);
  EXPECT_EQ(part.as<float>()[part.row_stride + 5], 3 * 21 + 9);
  EXPECT_EQ(part[0], 2);
  EXPECT_EQ(part[1], 6);
  EXPECT_FALSE(part.contiguous());
  EXPECT_TRUE(view.rows(2, 3).contiguous());
  EXPECT_TRUE(view.columns(0, 1).rows(0, 0).contiguous());

  const TensorView cube = view.rows(1, 4).reshaped({2, 14, 3});
  EXPECT_EQ(cube.as<float>()[cube.row_stride], 63);
  EXPECT_EQ(cube.rank, 3);
  EXPECT_THROW(part.reshaped({12}), Error);
  EXPECT_THROW(view.reshaped({104}), Error);
}

TEST(TensorView, RefusesWhatLiesOutside) {
  const TensorView view = make_view(nullptr, DType::f64, {5, 7});
  EXPECT_FALSE(view);
  EXPECT_EQ(view.rows(5, 0)[0], 0);
  EXPECT_THROW(view.rows(3, 3), Error);
  EXPECT_THROW(view.rows(-1, 2), Error);
  EXPECT_THROW(view.rows(INT64_MAX, INT64_MAX), Error);
  EXPECT_THROW(view.columns(0, 8), Error);
  EXPECT_THROW(view.reshaped({35}).columns(0, 1), Error);
  EXPECT_THROW(make_view(nullptr, DType::f32, {}).rows(0, 0), Error);
  EXPECT_THROW(make_view(nullptr, DType::f32, {1, 1, 1, 1, 1}), Error);
  EXPECT_THROW(make_view(nullptr, DType::f32, {-1}), Error);
}

}  // namespace
}  // namespace neurogen
