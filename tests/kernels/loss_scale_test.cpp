// Loss scaling: the scale from step to step, and operations that give the same bits under a power of two as without.
#include "kernels/loss_scale.h"

#include "kernels/adafactor.h"
#include "kernels/adamw.h"
#include "kernels/cross_entropy.h"
#include "kernels/gradient_norm.h"
#include "kernels/rowwise_rmsprop.h"
#include "tests/kernels/finite_difference.h"

namespace neurogen {
namespace {

TensorView view_of(StepControl& control) { return make_view(&control, DType::u8, {sizeof control}); }

TEST(LossScale, HalvesAtAnOverflowAndDoublesAfterALongWhileWithout) {
  LossScaleState s{};
  s = after_step(s, kBrainOverflow);
  EXPECT_EQ(s.doublings, -1);
  EXPECT_EQ(s.brain_skips, 1);
  EXPECT_EQ(s.decoder_skips, 0);
  s = after_step(s, kBrainOverflow | kDecoderOverflow);
  EXPECT_EQ(s.doublings, -2);
  EXPECT_EQ(s.brain_skips, 2);
  EXPECT_EQ(s.decoder_skips, 1);
  for (int i = 1; i < kLossScaleInterval; ++i) s = after_step(s, 0);
  EXPECT_EQ(s.doublings, -2);
  s = after_step(s, 0);
  EXPECT_EQ(s.doublings, -1);
  EXPECT_EQ(s.clean, 0);
  // Never beyond its bounds.
  for (int i = 0; i < 40; ++i) s = after_step(s, kBrainOverflow);
  EXPECT_EQ(kFirstLossScale + s.doublings, kLeastLossScale);
  for (int i = 0; i < 40 * kLossScaleInterval; ++i) s = after_step(s, 0);
  EXPECT_EQ(kFirstLossScale + s.doublings, kMostLossScale);
}

TEST(LossScale, TellsTheStepItsScaleAndTheStateWhatOverflowed) {
  Tensor<std::int32_t> state({4}, 0);
  state[0] = -3, state[1] = 7, state[2] = 1, state[3] = 2;
  StepControl control{.step = 9, .overflow = kBrainOverflow};
  loss_scale_begin(device_of(1), {state.view(), view_of(control)});
  EXPECT_EQ(control.loss_scale, 8192);
  EXPECT_EQ(control.overflow, 0);
  EXPECT_EQ(control.decoder_skips, 1);
  EXPECT_EQ(control.brain_skips, 2);

  Tensor<float> norm({2}, 1);
  loss_scale_end(device_of(1), {norm.view(), view_of(control), state.view()});
  EXPECT_EQ(control.overflow, 0);
  EXPECT_EQ(state.data, (std::vector<std::int32_t>{-3, 8, 1, 2}));
  norm[0] = NAN;
  loss_scale_end(device_of(1), {norm.view(), view_of(control), state.view()});
  EXPECT_EQ(control.overflow, kBrainOverflow);
  EXPECT_EQ(state.data, (std::vector<std::int32_t>{-4, 0, 1, 3}));
}

TEST(LossScale, FindsOneNumberThatIsNotFinite) {
  constexpr std::int64_t N = 37, O = 61;
  const auto overflow_of = [](Tensor<double> total, Tensor<float> d_features, float scale = 65536) {
    StepControl control{.loss_scale = scale};
    loss_scale_decoder(device_of(2), {total.view(), d_features.view(), view_of(control)});
    return control.overflow;
  };
  Tensor<double> total({2}, 100);
  auto gradient = Tensor<float>::noise({N, O}, 1);
  EXPECT_EQ(overflow_of(total, gradient), 0);
  for (const float bad : {INFINITY, -INFINITY, NAN})
    for (const std::int64_t at : {std::int64_t{0}, N * O / 2, N * O - 1}) {
      auto one = gradient;
      one[at] = bad;
      EXPECT_EQ(overflow_of(total, one), kDecoderOverflow | kBrainOverflow) << bad << " at " << at;
    }
  // The gradient of the logits, by its bound.
  EXPECT_EQ(overflow_of(total, gradient, 65504.0f * 100), 0);
  EXPECT_NE(overflow_of(total, gradient, 65504.0f * 101), 0);
  total[0] = INFINITY;
  EXPECT_NE(overflow_of(total, gradient), 0);
}

TEST(LossScale, GradientsAreTimesTheScaleUntilTheyAreUsed) {
  constexpr std::int64_t V = 9, O = 24, N = 5;
  StepControl plain{.step = 3, .learning_rate = 1e-2f, .table_learning_rate = 1e-2f, .decoder_learning_rate = 1e-2f},
      scaled = plain;
  scaled.loss_scale = 4096;
  const auto times = [](Tensor<float> x) {
    for (float& value : x.data) value *= 4096;
    return x;
  };
  auto targets = Tensor<std::int32_t>({N}, 3);
  auto log_sum = Tensor<float>({N}, 3);
  Tensor<double> total({2}, N);
  auto logits = Tensor<float>::noise({N, V}, 1), logits_scaled = logits;
  cross_entropy_backward(device_of(1), {logits.view(), targets.view(), log_sum.view(), total.view(), 0, view_of(plain)});
  cross_entropy_backward(device_of(1), {logits_scaled.view(), targets.view(), log_sum.view(), total.view(), 0, view_of(scaled)});
  // A share of 4096 / 5 rounds as one of 1 / 5 does.
  expect_same_bits(logits_scaled, times(logits), "d_logits");

  auto gradient = Tensor<float>::noise({V, O}, 2, 1e-3), gradient_scaled = times(gradient);
  const auto norm_of = [&](Tensor<float>& g, StepControl& control) {
    Tensor<double> partials({norm_partials(V * O)}, 0);
    Tensor<float> norm({2}, 0);
    sum_of_squares(device_of(1), {{{g.view(), {}}}, partials.view()});
    clip_factor(device_of(1), {partials.view(), 1e-3, norm.view(), view_of(control)});
    return norm;
  };
  Tensor<float> norm = norm_of(gradient, plain), norm_scaled = norm_of(gradient_scaled, scaled);
  EXPECT_EQ(norm_scaled[0], norm[0]);
  EXPECT_EQ(norm_scaled[1] * 4096, norm[1]);

  struct Weights {
    Tensor<float> p = Tensor<float>::noise({V, O}, 3), m = Tensor<float>::noise({V, O}, 4, 1e-3), v{{V, O}, 1e-6f};
    Tensor<float> weight = Tensor<float>::noise({V, O}, 5), row{{V}, 1e-6f}, column{{O}, 1e-6f}, sum{{O}, 0};
    Tensor<float> table = Tensor<float>::noise({V, O}, 6), moments{{V}, 1e-6f};
  };
  const auto update = [&](Tensor<float>& g, Tensor<float>& factor, StepControl& control) {
    Weights w;
    adamw(device_of(1), {view_of(control), factor.view(), {{g.view(), w.p.view(), w.m.view(), w.v.view(), 0.05}}});
    Tensor<std::int32_t> rows({V}, 0), count({1}, 4);
    for (std::int32_t i = 0; i < V; ++i) rows[i] = i;
    rowwise_rmsprop(device_of(1),
                    {view_of(control), factor.view(), rows.view(), count.view(), g.view(), w.table.view(), w.moments.view()});
    auto scratch = Tensor<double>::poisoned({adafactor_scratch(V, O)});
    adafactor_tiles(device_of(1),
                    {view_of(control), g.view(), w.weight.view(), w.row.view(), w.column.view(), w.sum.view(), scratch.view(), V});
    adafactor_finish(device_of(1), {w.sum.view(), V, w.column.view(), view_of(control)});
    return w;
  };
  const auto expect_same = [](const Weights& a, const Weights& b) {
    expect_same_bits(a.p, b.p, "parameter");
    expect_same_bits(a.m, b.m, "m");
    expect_same_bits(a.v, b.v, "v");
    expect_same_bits(a.table, b.table, "table");
    expect_same_bits(a.moments, b.moments, "its second moments");
    expect_same_bits(a.weight, b.weight, "decoder");
    expect_same_bits(a.row, b.row, "row");
    expect_same_bits(a.column, b.column, "column");
  };
  const Weights updated = update(gradient, norm, plain);
  EXPECT_NE(updated.p.data, Weights{}.p.data);
  EXPECT_NE(updated.weight.data, Weights{}.weight.data);
  expect_same(update(gradient_scaled, norm_scaled, scaled), updated);

  // Skipped steps do not count.
  scaled.step += 2, scaled.brain_skips = scaled.decoder_skips = 2;
  expect_same(update(gradient_scaled, norm_scaled, scaled), updated);

  // If only the brain overflowed, the decoder is updated; if the decoder overflowed, nothing is.
  gradient_scaled[7] = INFINITY;
  scaled.overflow = kDecoderOverflow | kBrainOverflow;
  expect_same(update(gradient_scaled, norm_scaled, scaled), Weights{});
  gradient_scaled[7] = gradient[7] * 4096;
  scaled.overflow = kBrainOverflow;
  const Weights decoder_alone = update(gradient_scaled, norm_scaled, scaled);
  expect_same_bits(decoder_alone.p, Weights{}.p, "parameter");
  expect_same_bits(decoder_alone.v, Weights{}.v, "v");
  expect_same_bits(decoder_alone.table, Weights{}.table, "table");
  expect_same_bits(decoder_alone.moments, Weights{}.moments, "its second moments");
  expect_same_bits(decoder_alone.weight, updated.weight, "decoder");
}

}  // namespace
}  // namespace neurogen
