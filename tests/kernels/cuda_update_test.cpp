// Norms of gradients and optimizers: compares a GPU with the CPU on the same values.
#include "kernels/adafactor.h"
#include "kernels/adamw.h"
#include "kernels/copy.h"
#include "kernels/gradient_norm.h"
#include "kernels/muon.h"
#include "kernels/rowwise_rmsprop.h"
#include "tests/kernels/cuda_tensor.h"

namespace neurogen {
namespace {

using CudaNorm = CudaTest;
using CudaAdamW = CudaTest;
using CudaMuon = CudaTest;
using CudaRowwiseRmsprop = CudaTest;
using CudaAdafactor = CudaTest;

// The step's scalars on both sides.
struct Control {
  StepControl value;
  TensorView host;
  OnGpu gpu_value;
  explicit Control(std::int64_t step)
      : value{step, 4e-3f, 3e-2f, 1e-3f, 2e-2f},
        host(make_view(&value, DType::u8, {sizeof value})),
        gpu_value(DType::u8, {sizeof value}) {
    gpu().copy_now(&value, gpu_value.view().data, sizeof value);
  }
};

TEST_F(CudaNorm, EqualsTheCpu) {
  for (const std::int64_t rows : {1, 37, 700}) {
    auto x = Tensor<float>::noise({700, 100}, 1);
    Tensor<std::int32_t> counted({1}, static_cast<std::int32_t>(rows));
    const std::int64_t chunks = norm_partials(70000);
    Tensor<double> partials({2 * chunks + 1}, 0);
    auto few = Tensor<float>::noise({6}, 2);
    Tensor<float> norm({2}, 0);
    sum_of_squares(device_of(1), {{{x.view(), counted.view()}, {few.view(), {}}, {x.view(), {}}}, partials.view()});
    clip_factor(device_of(1), {partials.view(), 1, norm.view()});
    const OnGpu g_x(x), g_counted(counted), g_few(few), g_partials(DType::f64, {2 * chunks + 1}), g_norm(DType::f32, {2});
    sum_of_squares(gpu(), {{{g_x, g_counted}, {g_few, {}}, {g_x, {}}}, g_partials});
    clip_factor(gpu(), {g_partials, 1, g_norm});
    expect_close(g_partials.values(), partials, 1e-6, "partial sums");
    expect_close(g_norm.values(), norm, 1e-6, "norm and factor");
  }
}

// Tensors of many lengths, as many as fit into one call.
TEST_F(CudaAdamW, EqualsTheCpu) {
  struct One {
    Tensor<float> gradient, p, m, v;
    OnGpu g_gradient, g_p, g_m, g_v, g_low;
    One(std::int64_t elements, unsigned seed)
        : gradient(Tensor<float>::noise({elements}, seed)),
          p(Tensor<float>::noise({elements}, seed + 1)),
          m(Tensor<float>::noise({elements}, seed + 2, 0.1)),
          v(Tensor<float>::noise({elements}, seed + 3, 0.1)) {
      for (float& x : v.data) x = std::abs(x);
      g_gradient = OnGpu(gradient), g_p = OnGpu(p), g_m = OnGpu(m), g_v = OnGpu(v);
      g_low = OnGpu(DType::bf16, {elements});
    }
  };
  for (const std::int64_t step : {0, 1, 200}) {
    Control control(step);
    Tensor<float> norm({2}, 0.7f);
    const OnGpu g_norm(norm);
    AdamW on_cpu{control.host, norm.view(), {}}, on_gpu{control.gpu_value, g_norm, {}};
    std::vector<One> all;
    for (int i = 0; i < kMostSeveral; ++i) all.emplace_back(4 * draw(1, i % 8 == 0 ? 20000 : 100), 10 * i);
    for (std::size_t i = 0; i < all.size(); ++i) {
      One& one = all[i];
      const double decay = i % 3 == 0 ? 0.05 : 0;
      on_cpu.updates.add({one.gradient.view(), one.p.view(), one.m.view(), one.v.view(), decay});
      on_gpu.updates.add({one.g_gradient, one.g_p, one.g_m, one.g_v, decay, i % 2 == 0 ? TensorView(one.g_low) : TensorView{}});
    }
    EXPECT_THROW(on_gpu.updates.add({}), Error);
    adamw(device_of(1), on_cpu);
    adamw(gpu(), on_gpu);
    for (std::size_t i = 0; i < all.size(); ++i) {
      const One& one = all[i];
      expect_close(one.g_p.values(), one.p, 1e-6, "parameter");
      if (i % 2 != 0) continue;
      Tensor<double> low = one.g_p.values();
      for (double& x : low.data) x = rounded(x, DType::bf16);
      expect_same_values(one.g_low, low, "its copy in 16 bits");
      expect_close(one.g_m.values(), one.m, 1e-6, "m");
      expect_close(one.g_v.values(), one.v, 1e-6, "v");
    }
  }
}

// Synapses of every fan-in that the presets have, and of the extremes, beside the CPU in float64.
struct Synapses {
  Tensor<double> gradient, value, momentum, before;
  OnGpu g_gradient, g_value, g_momentum, g_low;
  Synapses(Shape shape, unsigned seed, double size, DType low)
      : gradient(Tensor<double>::noise(shape, seed, size)),
        value(Tensor<double>::noise(shape, seed + 1, 0.02)),
        momentum(Tensor<double>::noise(shape, seed + 2, size / 4)),
        before(value),
        g_gradient(gradient, DType::f32),
        g_value(value, DType::f32),
        g_momentum(momentum, DType::f32),
        g_low(low, shape) {}
};

TEST_F(CudaMuon, EqualsTheCpu) {
  for (const DType low : {DType::bf16, DType::f16}) {
    Control control(3);
    Tensor<double> norm({2}, 0.5);
    const OnGpu g_norm(norm, DType::f32);
    auto scratch = Tensor<double>::poisoned({1, muon_scratch(kMuonMostFanIn)});
    Muon on_cpu{control.host, norm.view(), {}, scratch.view()}, on_gpu{control.gpu_value, g_norm, {}, {}};
    std::vector<Synapses> all;
    for (const std::int64_t fan_in : {16, 32, 48, 64, 96, 128, 160, 256}) {
      const double size = all.size() == 3 ? 1e-300 : all.size() == 4 ? 1e-6 : 0.1;  // the first becomes 0 in float32
      all.emplace_back(Shape{draw(1, 40), fan_in, 32 * draw(2, 5)}, static_cast<unsigned>(draw(1, 1000)), size, low);
    }
    for (std::size_t i = 0; i < all.size(); ++i) {
      Synapses& s = all[i];
      const double decay = i % 2 == 0 ? 0.05 : 0;
      on_cpu.updates.add({s.gradient.view(), s.value.view(), s.momentum.view(), decay});
      on_gpu.updates.add({s.g_gradient, s.g_value, s.g_momentum, decay, i % 3 != 2 ? TensorView(s.g_low) : TensorView{}});
    }
    muon(device_of(1), on_cpu);
    muon(gpu(), on_gpu);
    for (std::size_t i = 0; i < all.size(); ++i) {
      Synapses& s = all[i];
      const testing::ScopedTrace trace(__FILE__, __LINE__, "fan-in " + std::to_string(s.value.shape[1]));
      const Tensor<double> actual = s.g_value.values();
      Tensor<double> change = actual, expected = s.value;
      for (std::size_t e = 0; e < change.data.size(); ++e) change.data[e] -= s.before.data[e], expected.data[e] -= s.before.data[e];
      if (i != 3) expect_close(change, expected, 1e-4, "change of the values");
      expect_close(actual, s.value, 1e-5, "values");
      expect_close(s.g_momentum.values(), s.momentum, 1e-6, "momentum");
      if (i % 3 == 2) continue;
      expect_same_values(s.g_low, rounded(actual, low), "its copy in 16 bits");
    }
  }
}

TEST_F(CudaMuon, GivesTheSameBitsAloneAndSkipsAnOverflow) {
  Control control(3), overflow(3);
  overflow.value.overflow = 2;
  gpu().copy_now(&overflow.value, overflow.gpu_value.view().data, sizeof overflow.value);
  Tensor<double> norm({2}, 0.5);
  const OnGpu g_norm(norm, DType::f32);
  Synapses alone({7, 96, 128}, 1, 0.1, DType::bf16), again({7, 96, 128}, 1, 0.1, DType::bf16);
  Synapses skipped({7, 96, 128}, 1, 0.1, DType::bf16), wide({7, 256, 64}, 2, 0.1, DType::bf16);
  const auto update = [](const Synapses& s) { return MuonUpdate{s.g_gradient, s.g_value, s.g_momentum, 0.05}; };
  muon(gpu(), {control.gpu_value, g_norm, {update(alone)}, {}});
  muon(gpu(), {control.gpu_value, g_norm, {update(wide), update(again)}, {}});
  muon(gpu(), {overflow.gpu_value, g_norm, {update(skipped)}, {}});
  expect_same_values(again.g_value, alone.g_value.values(), "value beside wider synapses");
  expect_same_values(again.g_momentum, alone.g_momentum.values(), "momentum beside wider synapses");
  expect_same_values(skipped.g_value, skipped.before, "skipped value");
  const OnGpu high(DType::f32, {1, kMuonMostFanIn + 16, 64});
  EXPECT_THROW(muon(gpu(), {control.gpu_value, g_norm, {{high, high, high}}, {}}), Error);
}

TEST_F(CudaRowwiseRmsprop, UpdatesTheTouchedRowsAndForgetsAll) {
  for (const std::int64_t width : {8, 160, 1056}) {
    constexpr std::int64_t kRows = 500;
    Control control(3);
    Tensor<std::int32_t> rows({20}, 0), count({1}, 13);
    for (int i = 0; i < 20; ++i) rows[i] = 20 * i + 1;
    auto d_rows = Tensor<float>::noise({20, width}, 1), p = Tensor<float>::noise({kRows, width}, 2);
    for (std::int64_t e = 0; e < width; ++e) d_rows[e] = 0, d_rows[width + e] *= 1e-9f;
    Tensor<float> v({kRows}, 0.01f), norm({2}, 0.7f);
    v[1] = v[21] = 0;
    const OnGpu g_rows(rows), g_count(count), g_d_rows(d_rows), g_p(p), g_v(v), g_norm(norm);
    for (int step = 0; step < 3; ++step) {
      rowwise_rmsprop(device_of(1), {control.host, norm.view(), rows.view(), count.view(), d_rows.view(), p.view(), v.view()});
      rowwise_rmsprop(gpu(), {control.gpu_value, g_norm, g_rows, g_count, g_d_rows, g_p, g_v});
    }
    expect_close(g_p.values(), p, 1e-6, "table");
    expect_close(g_v.values(), v, 1e-6, "second moments");
  }
}

// Tiles, the last one shorter; on the GPU the weights have `type`, and the gradient may be narrow too.
struct Adafactor {
  static constexpr std::int64_t kVocabulary = 1000, kTile = 300;
  std::int64_t outputs;
  Control control;
  Tensor<float> gradient, weight, row, column, column_sum;
  OnGpu g_gradient, g_weight, g_row, g_column, g_column_sum, g_scratch;

  Adafactor(std::int64_t outputs_, std::int64_t step, DType type, DType gradient_type = DType::f32)
      : outputs(outputs_),
        control(step),
        gradient(Tensor<float>::noise({kVocabulary, outputs}, 1, 1e-3)),
        weight(rounded(Tensor<float>::noise({kVocabulary, outputs}, 2, 0.1), type)),
        row({kVocabulary}, step == 0 ? 0.0f : 1e-7f),
        column({outputs}, step == 0 ? 0.0f : 1e-7f),
        column_sum({outputs}, 0),
        g_gradient(gradient, gradient_type),
        g_weight(weight, type),
        g_row(row),
        g_column(column),
        g_column_sum(column_sum),
        g_scratch(DType::f64, {(kVocabulary + kTile - 1) / kTile, adafactor_scratch(kTile, outputs)}) {}

  void run() {
    Tensor<double> scratch({adafactor_scratch(kTile, outputs)}, 0);
    adafactor_tiles(device_of(1), {control.host, gradient.view(), weight.view(), row.view(), column.view(), column_sum.view(),
                                   scratch.view(), kTile, 0});
    // The first tile by itself, then the others together.
    for (const auto& [v, n] : {std::pair{std::int64_t{0}, kTile}, std::pair{kTile, kVocabulary - kTile}})
      adafactor_tiles(gpu(), {control.gpu_value, g_gradient.view().rows(v, n), g_weight.view().rows(v, n), g_row.view().rows(v, n),
                              g_column, g_column_sum, g_scratch, kTile, v});
    adafactor_finish(device_of(1), {column_sum.view(), kVocabulary, column.view(), control.host});
    adafactor_finish(gpu(), {g_column_sum, kVocabulary, g_column, control.gpu_value});
  }
};

TEST_F(CudaAdafactor, EqualsTheCpu) {
  for (const DType gradient : {DType::f32, DType::bf16})
    for (const std::int64_t outputs : {32, 200, 1056, 2056})
      for (const std::int64_t step : {0, 1, 300}) {
        Adafactor a(outputs, step, DType::f32, gradient);
        const Tensor<float> before = a.weight;
        a.run();
        Tensor<double> change = a.g_weight.values();
        Tensor<float> expected = a.weight;
        for (std::size_t i = 0; i < change.data.size(); ++i)
          change.data[i] -= static_cast<double>(before.data[i]), expected.data[i] -= before.data[i];
        expect_close(change, expected, 1e-4, "change of the weights");
        expect_close(a.g_row.values(), a.row, 1e-5, "row");
        expect_close(a.g_column.values(), a.column, 1e-5, "column");
      }
}

// Each weight becomes one of the two neighbours of the exact result; their average is the exact result.
TEST_F(CudaAdafactor, RoundsNarrowWeightsAtRandomWithoutBias) {
  for (const auto& [type, gradient] :
       {std::pair{DType::bf16, DType::f32}, std::pair{DType::bf16, DType::bf16}, std::pair{DType::f16, DType::f32}}) {
    Adafactor a(1056, 5, type, gradient), again(1056, 5, type, gradient), later(1056, 6, type, gradient);
    a.run(), again.run(), later.run();
    const Tensor<double> actual = a.g_weight.values();
    expect_same_values(a.g_weight, again.g_weight, "the same step twice");
    EXPECT_NE(actual.data, later.g_weight.values().data) << "another step draws anew";
    const double steps = type == DType::bf16 ? 0x1p-7 : 0x1p-10;  // one unit of the last place, at most
    double bias = 0, spread = 0;
    for (std::size_t i = 0; i < actual.data.size(); ++i) {
      const double exact = static_cast<double>(a.weight.data[i]), unit = std::max(std::abs(exact) * steps, 0x1p-24);
      const double error = (static_cast<double>(actual.data[i]) - exact) / unit;
      EXPECT_LE(std::abs(error), 1.01);
      bias += error;
      spread += error * error;
    }
    const double n = static_cast<double>(actual.data.size());
    EXPECT_LT(std::abs(bias), 5 * std::sqrt(spread)) << "the mean error is 0 within five deviations";
    EXPECT_GT(spread / n, 0.02) << "something was rounded at all";
  }
}

}  // namespace
}  // namespace neurogen
