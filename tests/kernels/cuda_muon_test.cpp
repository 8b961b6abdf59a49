#include "kernels/muon.h"
#include "tests/kernels/cuda_tensor.h"

namespace neurogen {
namespace {

using CudaMuon = CudaTest;

TEST_F(CudaMuon, RefusesAFanInThatSharedMemoryHasNoRoomFor) {
  const OnGpu high(DType::f32, {1, kMuonMostFanIn + 16, 64}), norm(DType::f32, {2}), control(DType::u8, {sizeof(StepControl)});
  EXPECT_THROW(muon(gpu(), {control, norm, {{high, high, high}}, {}}), Error);
}

}  // namespace
}  // namespace neurogen
