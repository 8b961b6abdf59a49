// Loss scaling: compares a GPU with the CPU, and tests skipped updates.
#include "kernels/adafactor.h"
#include "kernels/adamw.h"
#include "kernels/cross_entropy.h"
#include "kernels/gradient_norm.h"
#include "kernels/loss_scale.h"
#include "kernels/rowwise_rmsprop.h"
#include "tests/kernels/cuda_tensor.h"

namespace neurogen {
namespace {

using CudaLossScale = CudaTest;

// A step's scalars on the GPU.
struct Control {
  OnGpu memory{DType::u8, {sizeof(StepControl)}};
  explicit Control(const StepControl& value) { gpu().copy_now(&value, memory.view().data, sizeof value); }
  StepControl value() const {
    StepControl now;
    gpu().copy_now(memory.view().data, &now, sizeof now);
    return now;
  }
};

TEST_F(CudaLossScale, GoesFromStepToStepAsOnTheCpu) {
  const Tensor<std::int32_t> zero({4}, 0);
  Tensor<std::int32_t> state = zero;
  const OnGpu g_state(zero);
  for (int step = 0; step < 2100; ++step) {
    Tensor<float> norm({2}, step == 3 || step == 4 ? INFINITY : 1.0f);
    StepControl control{.step = step};
    const Control g_control(control);
    const TensorView view = make_view(&control, DType::u8, {sizeof control});
    loss_scale_begin(device_of(1), {state.view(), view});
    loss_scale_end(device_of(1), {norm.view(), view, state.view()});
    const OnGpu g_norm(norm);
    loss_scale_begin(gpu(), {g_state, g_control.memory});
    loss_scale_end(gpu(), {g_norm, g_control.memory, g_state});
    const StepControl now = g_control.value();
    ASSERT_EQ(now.loss_scale, control.loss_scale) << step;
    ASSERT_EQ(now.overflow, control.overflow) << step;
    ASSERT_EQ(now.brain_skips, control.brain_skips) << step;
  }
  expect_same_values(g_state, state, "state");
}

TEST_F(CudaLossScale, FindsOneNumberThatIsNotFinite) {
  for (const DType type : kFloats) {
    const auto overflow_of = [&](Tensor<double> total, Tensor<float> d_features, float scale = 65536) {
      const Control control({.loss_scale = scale});
      const OnGpu g_total(total), g_features(d_features, type);
      loss_scale_decoder(gpu(), {g_total, g_features, control.memory});
      return control.value().overflow;
    };
    Tensor<double> total({2}, 100);
    auto gradient = Tensor<float>::noise({300, 1056}, 1);
    EXPECT_EQ(overflow_of(total, gradient), 0);
    for (const float bad : {INFINITY, -INFINITY, NAN})
      for (const std::int64_t at : {0, 150'001, 300 * 1056 - 1}) {
        auto one = gradient;
        one[at] = bad;
        EXPECT_EQ(overflow_of(total, one), kDecoderOverflow | kBrainOverflow) << bad << " at " << at;
      }
    EXPECT_EQ(overflow_of(total, Tensor<float>{}, 65504.0f * 100), 0);
    EXPECT_NE(overflow_of(total, Tensor<float>{}, 65504.0f * 101), 0);
    total[0] = NAN;
    EXPECT_NE(overflow_of(total, gradient), 0);
  }
}

struct Updated {
  Tensor<double> p, m, v, rows, moments, decoder, row, column;
};

// Updates everything once, from gradients times a scale.
Updated update(StepControl step, float times) {
  constexpr std::int64_t V = 300, O = 1056;
  const Control control(step);
  auto gradient = Tensor<float>::noise({V, O}, 2, 1e-3);
  for (float& g : gradient.data) g *= times;
  Tensor<std::int32_t> first({V}, 0), count({1}, static_cast<std::int32_t>(V));
  for (std::int64_t i = 0; i < V; ++i) first[i] = static_cast<std::int32_t>(i);
  auto p = Tensor<float>::noise({V, O}, 3), small = Tensor<float>::noise({V, O}, 4, 1e-3),
       decoder = Tensor<float>::noise({V, O}, 5);
  const Tensor<float> some({V, O}, 1e-6f), row({V}, 1e-6f), column({O}, 1e-6f), sum({O}, 0);
  const OnGpu g(gradient), partials(DType::f64, {norm_partials(V * O)}), norm(DType::f32, {2}), g_p(p), g_m(small), g_v(some),
      g_rows(p), rows_v(row), ids(first), ids_count(count), g_decoder(decoder, DType::f16), g_row(row), g_column(column),
      g_sum(sum), scratch(DType::f64, {1, adafactor_scratch(V, O)});
  sum_of_squares(gpu(), {{{g, {}}}, partials});
  clip_factor(gpu(), {partials, 1e-3, norm, control.memory});
  adamw(gpu(), {control.memory, norm, {{g, g_p, g_m, g_v, 0.05}}});
  rowwise_rmsprop(gpu(), {control.memory, norm, ids, ids_count, g, g_rows, rows_v});
  adafactor_tiles(gpu(), {control.memory, g, g_decoder, g_row, g_column, g_sum, scratch, V, 0});
  adafactor_finish(gpu(), {g_sum, V, g_column, control.memory});
  gpu().synchronize();
  return {g_p.values(),    g_m.values(),       g_v.values(),   g_rows.values(),
          rows_v.values(), g_decoder.values(), g_row.values(), g_column.values()};
}

void expect_same(const Updated& a, const Updated& b, bool brain, bool decoder) {
  EXPECT_EQ(a.p.data == b.p.data && a.m.data == b.m.data && a.v.data == b.v.data && a.rows.data == b.rows.data &&
                a.moments.data == b.moments.data,
            brain);
  EXPECT_EQ(a.decoder.data == b.decoder.data && a.row.data == b.row.data && a.column.data == b.column.data, decoder);
}

TEST_F(CudaLossScale, ChangesNoBitOfAnUpdateAndLeavesSkippedOnesOut) {
  StepControl step{.step = 3, .learning_rate = 1e-2f, .table_learning_rate = 1e-2f, .decoder_learning_rate = 1e-2f};
  for (const std::int64_t number : {0, 3}) {
    step.step = number, step.loss_scale = 1;
    const Updated plain = update(step, 1);
    step.loss_scale = 4096;
    expect_same(update(step, 4096), plain, true, true);
    step.overflow = kDecoderOverflow | kBrainOverflow;
    const Updated nothing = update(step, INFINITY);
    expect_same(nothing, plain, false, false);
    expect_same(update(step, 1), nothing, true, true);
    step.overflow = kBrainOverflow;
    const Updated decoder = update(step, 4096);
    expect_same(decoder, plain, false, true);
    expect_same(decoder, nothing, true, false);
    step.overflow = 0;
  }
}

TEST_F(CudaLossScale, MultipliesTheLogitsGradient) {
  constexpr std::int64_t N = 40, V = 200;
  Tensor<std::int32_t> targets({N}, 3);
  Tensor<float> log_sum({N}, 6);
  const Tensor<double> total({2}, N);
  const auto logits = Tensor<float>::noise({N, V}, 1);
  const OnGpu plain(logits), scaled(logits), g_targets(targets), g_log_sum(log_sum), g_total(total);
  const Control control({.loss_scale = 1024});
  cross_entropy_backward(gpu(), {plain, g_targets, g_log_sum, g_total, 0, {}});
  cross_entropy_backward(gpu(), {scaled, g_targets, g_log_sum, g_total, 0, control.memory});
  Tensor<double> expected = plain.values();
  for (double& x : expected.data) x *= 1024;
  expect_same_values(scaled, expected, "d_logits");
}

}  // namespace
}  // namespace neurogen
