#include "kernels/adafactor.h"
#include "tests/kernels/gpu.h"
#include "tests/kernels/operations/instance.h"

namespace neurogen {
namespace {

using CudaAdafactor = CudaTest;

// The operation of the list, its weights stored in another type.
Case adafactor_with(Stored weights, std::int64_t step) {
  for (const Operation* operation : operations()) {
    if (operation->name != "adafactor") continue;
    Case c = operation->at({1000, 1056, 300, step, 0, 0});
    c[c.find("weight")].stored = weights;
    return c;
  }
  throw Error("the list has no adafactor");
}

// Each weight becomes one of the two neighbours of the exact result; their average is the exact result.
TEST_F(CudaAdafactor, RoundsNarrowWeightsAtRandomWithoutBias) {
  for (const auto& [type, gradient] :
       {std::pair{Stored::bf16, DType::f32}, {Stored::bf16, DType::bf16}, {Stored::f16, DType::f32}}) {
    const Case narrow = adafactor_with(type, 5), wide = adafactor_with(Stored::single, 5), next = adafactor_with(type, 6);
    const Id weight = narrow.find("weight");
    Instance<CudaDevice> instance(gpu(), narrow, gradient), again(gpu(), narrow, gradient), later(gpu(), next, gradient);
    Instance<CpuDevice> reference(device_of(2), wide, DType::f64);
    reference.set(instance.values());
    instance.run(), again.run(), later.run(), reference.run();
    const Tensor<double> actual = instance.values()[weight], expected = reference.values()[weight];
    EXPECT_EQ(actual.data, again.values()[weight].data) << "the same step twice";
    EXPECT_NE(actual.data, later.values()[weight].data) << "another step draws anew";
    const double steps = type == Stored::bf16 ? 0x1p-7 : 0x1p-10;  // one unit of the last place, at most
    double bias = 0, spread = 0;
    for (std::size_t i = 0; i < actual.data.size(); ++i) {
      const double exact = expected.data[i], unit = std::max(std::abs(exact) * steps, 0x1p-24);
      const double error = (actual.data[i] - exact) / unit;
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
