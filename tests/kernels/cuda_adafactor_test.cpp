#include "kernels/adafactor.h"
#include "tests/kernels/cuda_tensor.h"

namespace neurogen {
namespace {

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
