// Operations with invalid accesses, for compute-sanitizer: it must find them between separate buffers, and cannot in one block.
// Only tools/test-gpu-sanitizers.sh runs them, and knows what must be found.
#include <gtest/gtest.h>

#include "engine/graph/program.h"
#include "engine/run/fit.h"
#include "kernels/base/cuda_device.h"
#include "kernels/cast.h"

namespace neurogen {
namespace {

// Buffers of multiples of 512 bytes, which the driver places without a gap; `behind` follows `narrow` in one block.
struct Small {
  Graph graph;
  TensorId wide = graph.tensor("wide", DType::f32, {257}, BufferKind::persistent),
           narrow = graph.transient("narrow", DType::bf16, {256}), behind = graph.transient("behind", DType::bf16, {256});

  // A program runs once when it is created.
  template <typename Run>
  void run(bool separate, Run mistake) {
    if (CudaDevice::count() == 0) GTEST_SKIP() << "no GPU";
    graph.begin_program();
    graph.gpu_operation("mistake", {wide}, {narrow, behind}, mistake);
    CudaDevice gpu;
    const Arena arena = Arena::on_gpu(plan_graph(graph, {1'000'000, 0, Snapshot::none, false}), separate);
    const Program program(graph, arena, gpu);
  }
  void write_one_too_many(bool separate) {
    run(separate, [this](CudaDevice& gpu, const Bindings& at) {
      TensorView longer = at[narrow];
      longer.shape[0] += 1;
      cast(gpu, at[wide], longer);
    });
  }
  void read_before_writing(bool separate) {
    run(separate, [this](CudaDevice& gpu, const Bindings& at) { cast(gpu, at[narrow], at[wide].rows(0, 256)); });
  }
};

TEST(DISABLED_CudaMistakes, OneElementTooManyOneBlock) { Small().write_one_too_many(false); }
TEST(DISABLED_CudaMistakes, OneElementTooManySeparateBuffer) { Small().write_one_too_many(true); }
TEST(DISABLED_CudaMistakes, ReadBeforeWrittenOneBlock) { Small().read_before_writing(false); }
TEST(DISABLED_CudaMistakes, ReadBeforeWrittenSeparateBuffer) { Small().read_before_writing(true); }

}  // namespace
}  // namespace neurogen
