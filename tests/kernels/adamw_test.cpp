#include "kernels/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "arena/error.h"
#include "kernels/base/eight_bits.h"
#include "kernels/base/half.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

TEST(AdamW, RefusesMixedTypesAndStridedRows) {
  auto x = Tensor<float>::noise({4, 6}, 1);
  Tensor<std::int32_t> wrong({4, 6}, 0);
  Tensor<float> norm({2}, 1);
  StepControl control;
  EXPECT_THROW(adamw(device_of(1), {view_of(control), norm.view(), {{wrong.view(), x.view(), x.view(), x.view()}}}), Error);
  const TensorView strided = x.view().columns(0, 3);
  EXPECT_THROW(adamw(device_of(1), {view_of(control), norm.view(), {{strided, strided, strided, strided}}}), Error);
}

// One tensor whose gradients are all alike, stored in fewer bits.
struct Narrow {
  explicit Narrow(std::int64_t n, float g)
      : gradient(static_cast<std::size_t>(n), g), value(gradient.size(), 0x3E99), m(gradient.size(), 128), v(gradient.size(), 0) {
    scales.resize(2 * static_cast<std::size_t>(moment_blocks(n)));
  }
  void step(std::int64_t number, float rate) {
    StepControl control{.step = number, .learning_rate = rate};
    float norm[2] = {1, 1};
    const auto n = static_cast<std::int64_t>(m.size()), blocks = moment_blocks(n);
    AdamW a{view_of(control), make_view(norm, DType::f32, {2}), {}};
    a.updates.add({make_view(gradient.data(), DType::f32, {n}),
                   make_view(value.data(), DType::bf16, {n}),
                   make_view(m.data(), DType::u8, {n}),
                   make_view(v.data(), DType::u8, {n}),
                   0,
                   {},
                   make_view(scales.data(), DType::f32, {blocks}),
                   make_view(scales.data() + blocks, DType::f32, {blocks}),
                   7});
    adamw(device_of(2), a);
  }
  double mean_value() const {
    return std::accumulate(value.begin(), value.end(), 0.0, [](double sum, std::uint16_t x) { return sum + widen(Bf16{x}); }) /
           static_cast<double>(value.size());
  }
  double mean_v() const {  // of all but each block's first
    double sum = 0;
    for (std::size_t i = 0; i < v.size(); ++i)
      if (i % kMomentBlock != 0) sum += static_cast<double>(scales[scales.size() / 2 + i / kMomentBlock] * share_of_v<float>(v[i]));
    return sum / static_cast<double>(v.size());
  }
  std::vector<float> gradient, scales;
  std::vector<std::uint16_t> value;
  std::vector<std::uint8_t> m, v;
};

TEST(AdamW, MovesNarrowWeightsByFarLessThanTheirLastBitOnAverage) {
  Narrow tensor(100'000, 0.5f);
  const double before = tensor.mean_value();
  for (std::int64_t step = 0; step < 10; ++step) tensor.step(step, 1e-5f);  // a last bit of 0.3 is 0.002
  EXPECT_NEAR((tensor.mean_value() - before) / -1e-4, 1, 0.15);
  Narrow again(100'000, 0.5f);
  for (std::int64_t step = 0; step < 10; ++step) again.step(step, 1e-5f);
  EXPECT_EQ(again.value, tensor.value) << "draws repeat";
  again.step(10, 1e-5f), tensor.step(11, 1e-5f);
  EXPECT_NE(again.value, tensor.value) << "another step draws anew";
}

// Rounded to the nearest code, v of all but the largest would stand still: it loses 2 % a step, a code is up to 4 / q of it.
TEST(AdamW, LetsNarrowMomentsDecayOnAverage) {
  Narrow tensor(100'096, 0);
  std::fill(tensor.scales.begin(), tensor.scales.end(), 1.0f);
  for (std::size_t i = 0; i < tensor.v.size(); ++i) tensor.v[i] = i % kMomentBlock == 0 ? 255 : 60;
  const double before = tensor.mean_v();
  for (std::int64_t step = 0; step < 40; ++step) tensor.step(step, 1e-5f);
  EXPECT_NEAR(tensor.mean_v() / before / std::pow(kAdamBeta2, 40), 1, 0.02);
}

TEST(AdamW, NeverDividesByAMomentThatIsRoundedToNothing) {
  for (std::uint32_t draw = 0; draw < 256; ++draw) {
    EXPECT_EQ(code_of_v(1e-30f, draw), 1);
    EXPECT_EQ(code_of_v(0.0f, draw), 0);
    EXPECT_EQ(code_of_v(1.0f, draw), 255);
    EXPECT_EQ(code_of_m(-1.0f, draw), 1);
    EXPECT_EQ(code_of_m(1.00001f, draw), 255);
    EXPECT_EQ(code_of_m(NAN, draw), 255);
    EXPECT_EQ(code_of_m(0.0f, draw), 128);
  }
}

TEST(AdamW, TakesAsManyTensorsAsFitIntoACall) {
  AdamW arguments;
  for (int i = 0; i < kMostSeveral; ++i) arguments.updates.add({});
  EXPECT_THROW(arguments.updates.add({}), Error);
}

}  // namespace
}  // namespace neurogen
