// Measures how close the planner comes to the lower bound of any placement, and which order of placing wins. Prints the tables of
// docs/history.md.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "arena/placement.h"
#include "engine/run/fit.h"
#include "tests/engine/random_architecture.h"

namespace neurogen {
namespace {

// Collects plans of device arenas; prints worst and median of used bytes over the bound, one line of a Markdown table each.
class PlanQuality {
 public:
  // Returns the whole arena's ratio.
  double add(const Graph& graph) {
    const PlanRequest request = graph.plan_request();
    std::vector<Interval> intervals;
    Bytes fixed = 0;
    for (const Buffer& b : request.buffers) {
      if (b.arena != ArenaKind::device) continue;
      const Bytes bytes = align_up(size_of(b.dtype, b.shape));
      if (b.kind == BufferKind::transient) intervals.push_back({bytes, b.first_op, b.last_op});
      else fixed += bytes;
    }
    std::vector<OrderResult> tried;
    const Placement placement = place(intervals, &tried);
    const Bytes bound = lower_bound(intervals);
    const auto over = [](Bytes used, Bytes least) { return static_cast<double>(used) / static_cast<double>(least); };
    for (const OrderResult& result : tried) {
      if (orders_.find(result.order) == orders_.end()) names_.push_back(result.order);
      orders_[result.order].push_back(over(result.height, bound));
    }
    ++won_[placement.order.rfind("shuffle", 0) == 0 ? "variations" : placement.order];
    transients_.push_back(over(placement.height, bound));
    arenas_.push_back(over(fixed + placement.height, fixed + bound));
    return arenas_.back();
  }

  void print(const std::string& title) {
    fmt::print("{}, {} plans\n| bytes used over the lower bound | worst | median | won |\n|---|---|---|---|\n", title,
               arenas_.size());
    line("device arena", arenas_, "");
    line("its transients alone", transients_, "");
    for (const std::string& name : names_) line("by " + name + " alone", orders_[name], std::to_string(won_[name]));
    fmt::print("| variations of the best | | | {} |\n", won_["variations"]);
  }

 private:
  static void line(const std::string& name, std::vector<double> ratios, const std::string& won) {
    std::sort(ratios.begin(), ratios.end());
    fmt::print("| {} | {:.4f} | {:.4f} | {} |\n", name, ratios.back(), ratios[ratios.size() / 2], won);
  }

  std::vector<double> arenas_, transients_;
  std::vector<std::string> names_;  // in the order of trial
  std::map<std::string, std::vector<double>> orders_;
  std::map<std::string, int> won_;
};

struct Setting {
  const char* preset;
  std::int64_t batch;
  bool cuda;
};

// Every schedule, small and large batches, both devices: at most 2 % above the bound.
TEST(Planner, StaysWithinTwoPercentOfTheBoundForPresets) {
  for (const char* preset : {"tiny", "small", "full"}) {
    PlanQuality quality;
    for (const Setting& s : {Setting{"tiny", 4, false},
                             {"tiny", 32, false},
                             {"small", 1, false},
                             {"small", 8, false},
                             {"full", 2, false},
                             {"full", 16, false},
                             {"tiny", 32, true},
                             {"small", 32, true},
                             {"full", 8, true},
                             {"full", 32, true}}) {
      if (preset != std::string(s.preset)) continue;
      const BrainShape architecture = read_brain(s.preset);
      StepOptions options;
      options.batch = s.batch;
      options.target.threads = s.cuda ? 0 : 2;
      if (s.cuda) options.compute = options.decoder_storage = DType::bf16;
      for (const Schedule& schedule : schedules(options)) {
        options.schedule = schedule;
        EXPECT_LE(quality.add(build_training(architecture, options).graph), 1.02) << describe(architecture, options);
      }
    }
    quality.print(preset);
  }
}

// Training graphs of a thousand random brains, steps, types and schedules.
TEST(Planner, ComesCloseToTheBoundForRandomBrains) {
  PlanQuality quality;
  for (std::uint64_t seed = 5000; seed < 6000; ++seed) {
    Random random(seed);
    const BrainShape a = random_architecture(random);
    StepOptions o = random_options(random, a);
    if (random.one_of({true, false})) o.compute = o.decoder_storage = DType::bf16, o.target.gpu = true;  // on a GPU
    const std::vector<Schedule> list = schedules(o);
    o.schedule = list[static_cast<std::size_t>(random.between(0, static_cast<std::int64_t>(list.size()) - 1))];
    EXPECT_LE(quality.add(build_training(a, o).graph), 1.03) << "seed " << seed << ": " << describe(a, o);
  }
  quality.print("random brains");
}

TEST(Planner, ComesCloseToTheBoundForRandomTransformers) {
  PlanQuality quality;
  for (std::uint64_t seed = 6000; seed < 7000; ++seed) {
    Random random(seed);
    const ArchitecturePtr a = random_transformer(random);
    StepOptions o = random_options(random, *a);
    const std::vector<Schedule> list = schedules(*a, o);
    o.schedule = list[static_cast<std::size_t>(random.between(0, static_cast<std::int64_t>(list.size()) - 1))];
    EXPECT_LE(quality.add(build_training(a, o).graph), 1.03) << "seed " << seed << ": " << describe(*a, o);
  }
  quality.print("random transformers");
}

}  // namespace
}  // namespace neurogen
