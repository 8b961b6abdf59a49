// AddressSanitizer tells the buffers of an arena apart: it catches an operation that leaves its own.
#include <gtest/gtest.h>

#include "engine/graph/program.h"
#include "engine/run/fit.h"

namespace neurogen {
namespace {

// Two transients of 10 floats, the first dead when the second is written, and a persistent buffer after both.
struct Small {
  Graph graph;
  TensorId first = graph.transient("first", DType::f32, {10}), second = graph.transient("second", DType::f32, {10}),
           kept = graph.tensor("kept", DType::f32, {10}, BufferKind::persistent);

  // The second operation writes element `at` of a tensor.
  void run(TensorId tensor, std::int64_t at, bool overlay = true) {
    graph.begin_program();
    graph.operation("one", {}, {first}, [](auto&, const Bindings&) {});
    graph.operation("two", {}, {second, kept}, [=](auto&, const Bindings& views) { views[tensor].template as<float>()[at] = 1; });
    const Arena arena(plan_graph(graph, {1'000'000, 0, Snapshot::none, overlay}));
    CpuDevice cpu(1);
    Program program(graph, arena, cpu);
    program.run(graph.programs().front());
    for (const ArenaKind kind : {ArenaKind::device, ArenaKind::host}) {  // between runs all buffers are accessible
      for (Bytes i = 0; i < arena.block(kind).size(); ++i) EXPECT_LE(arena.data(kind)[i], std::byte{0xFF});
    }
  }
};

TEST(Fence, LetsAnOperationTouchItsOwn) {
  for (std::int64_t at : {0, 9}) {
    Small().run({1}, at);
    Small().run({2}, at);
  }
}

TEST(Fence, StopsWhatReachesPastATensor) {
  for (std::size_t tensor : {1, 2}) {
    for (std::int64_t at : {10, 40, 63}) EXPECT_DEATH(Small().run({tensor}, at), "use-after-poison") << tensor << " " << at;
  }
  EXPECT_DEATH(Small().run({1}, -1), "use-after-poison");
}

TEST(Fence, StopsWhatTouchesADeadTensor) { EXPECT_DEATH(Small().run({0}, 0, false), "use-after-poison"); }

}  // namespace
}  // namespace neurogen
