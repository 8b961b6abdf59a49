// How close the planner comes to the lower bound that no placement can beat.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "arena/placement.h"
#include "engine/run/fit.h"

namespace neurogen {
namespace {

struct Setting {
  const char* preset;
  std::int64_t batch;
  bool cuda;
};

// Every schedule of every preset, small and large batches, both devices: at most 2 % above the bound.
TEST(PlanQuality, PresetsStayWithinTwoPercentOfTheBound) {
  double worst = 1;
  for (const Setting& s : {Setting{"tiny", 4, false}, {"tiny", 32, false}, {"small", 1, false}, {"small", 8, false},
                           {"full", 2, false}, {"full", 16, false}, {"small", 32, true}, {"full", 8, true}, {"full", 32, true}}) {
    BrainOptions options;
    options.batch = s.batch;
    options.threads = s.cuda ? 0 : 2;
    if (s.cuda) options.compute = options.decoder_storage = DType::bf16;
    for (const Schedule& schedule : schedules(options)) {
      options.schedule = schedule;
      const Architecture architecture = read_architecture(s.preset);
      const Plan plan = plan_graph(build_training(architecture, options).graph, {UINT64_MAX, 0});
      const double ratio = static_cast<double>(plan.device.bytes) / static_cast<double>(plan.device.lower_bound);
      EXPECT_LE(ratio, 1.02) << describe(architecture, options);
      worst = std::max(worst, ratio);
    }
  }
  fmt::print("worst of the presets' schedules: {:.4f} of the lower bound\n", worst);
}

// What each order gives by itself for the full brain on a GPU.
TEST(PlanQuality, OrdersOfTheFullBrain) {
  BrainOptions options;
  options.threads = 0;
  options.compute = options.decoder_storage = DType::bf16;
  options.schedule = {true, 4, 128'000'000};
  std::vector<Interval> intervals;
  for (const Buffer& buffer : build_training(read_architecture("full"), options).graph.plan_request().buffers) {
    if (buffer.kind != BufferKind::transient || buffer.arena != ArenaKind::device) continue;
    intervals.push_back({align_up(size_of(buffer.dtype, buffer.shape)), buffer.first_op, buffer.last_op});
  }
  std::vector<OrderResult> tried;
  const Placement best = place(intervals, &tried);
  for (const OrderResult& result : tried) {
    EXPECT_GE(result.height, best.height);
    fmt::print("{:<20} {:.4f} of the lower bound\n", result.order,
               static_cast<double>(result.height) / static_cast<double>(lower_bound(intervals)));
  }
  EXPECT_FALSE(tried.empty());
}

}  // namespace
}  // namespace neurogen
