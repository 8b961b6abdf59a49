#include "kernels/muon.h"
#include "tests/kernels/gpu.h"

namespace neurogen {
namespace {

using CudaMuon = CudaTest;

TEST_F(CudaMuon, RefusesAFanInThatSharedMemoryHasNoRoomFor) {
  const Shape shape{1, kMuonMostFanIn + 16, 64};
  const Block memory = Block::on_gpu(size_of(DType::f32, shape));
  const TensorView high = make_view(memory.data(), DType::f32, shape);
  EXPECT_THROW(muon(gpu(), {high, high, {{high, high, high}}, {}}), Error);
}

}  // namespace
}  // namespace neurogen
