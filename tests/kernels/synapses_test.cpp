#include "kernels/brain/synapses.h"

#include <gtest/gtest.h>

#include "arena/error.h"
#include "tests/kernels/tensor.h"

namespace neurogen {
namespace {

// Groups of 64 inputs from the blocks that `wiring` names.
void run(Tensor<std::int32_t> wiring) {
  const std::int64_t groups = wiring.shape[0];
  Tensor<float> source({4, 96}, 1), weight({groups, 64, 64}, 1), taps({4, 32 * groups}, 1), bias({2, 32 * groups}, 0),
      currents({groups, 4, 64}, 0), scratch({1, synapses_scratch(64, 4)}, 0);
  Tensor<std::int32_t> first({4}, 0);
  Sources sources;
  sources.outputs[static_cast<std::size_t>(sources.count++)] = source.view();
  synapses_forward(
      device_of(1),
      {sources, wiring.view(), weight.view(), {taps.view(), first.view(), 4}, bias.view(), currents.view(), 4, scratch.view()});
}

TEST(Synapses, RefuseWiringToNowhereAndBlocksOfOtherWidths) {
  Tensor<std::int32_t> wiring({3, 2}, 2), reader_start({4}, 0), readers({6}, 0);
  run(wiring);
  wiring[3] = 3;
  EXPECT_THROW(run(wiring), Error);
  EXPECT_THROW(synapses_readers(device_of(1), {wiring.view(), reader_start.view(), readers.view()}), Error);
  EXPECT_THROW(run(Tensor<std::int32_t>({3, 8}, 0)), Error) << "source blocks of 8";
}

}  // namespace
}  // namespace neurogen
