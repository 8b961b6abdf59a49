// neurogen-engine bench: how long a training step takes, and each family of its operations.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <regex>

#include "arena/error.h"
#include "engine/brain/initialize.h"
#include "engine/run/session.h"
#include "kernels/random.h"
#include "kernels/step_control.h"
#include "tools/common/settings.h"
#include "tools/neurogen-engine/commands.h"

namespace neurogen {
namespace {

struct BenchSettings {
  Settings common;
  std::int64_t repeats = 5;
};

struct Family {
  double milliseconds = 0, flops = 0;
  int operations = 0;
};

// "section1.wernicke.tile3.synapses" -> "wernicke.tile.synapses"
std::string family_of(const std::string& name) {
  static const std::regex section("section[0-9]+\\."), number("tile[0-9]+");
  return std::regex_replace(std::regex_replace(name, section, ""), number, "tile");
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Tokens at random: what is looked up, and how often, costs as in a text with no favourites.
void fill_batch(const Session& session) {
  const TensorView batch = session.program.view(session.brain.host_batch);
  const auto vocabulary = static_cast<std::uint64_t>(session.brain.architecture.vocabulary);
  for (std::int64_t i = 0; i < batch.elements(); ++i) {
    batch.as<std::int32_t>()[i] = static_cast<std::int32_t>(below(vocabulary, 1, 3000, static_cast<std::uint64_t>(i)));
  }
  *session.program.view(session.brain.host_control).as<StepControl>() = {1, 1e-5f, 1e-5f, 1e-5f, 0};
}

int bench(const BenchSettings& s) {
  if (s.repeats < 1) throw Error(fmt::format("--repeats is {}: use at least 1", s.repeats));
  const Resolved r = resolve(s.common, false);
  const Fit planned = fit(r);
  if (!planned.fits()) return refuse("neurogen-engine", r, planned);
  Session session(build_training(r.architecture, planned.options), planned.plan, r.place);
  initialize(session.brain, session.program, 1);
  fill_batch(session);
  const Graph& graph = session.brain.graph;
  const Graph::Range train = graph.program("train");

  std::vector<double> steps;
  for (std::int64_t i = 0; i <= s.repeats; ++i) {
    session.program.run(train);
    if (i > 0) steps.push_back(session.program.milliseconds());  // the first warms up
  }
  std::map<std::string, Family> families;
  double sum = 0, flops = 0;
  for (std::size_t o = train.begin; o < train.end; ++o) {
    std::vector<double> times;
    for (std::int64_t i = 0; i <= s.repeats; ++i) times.push_back(session.program.time(o));
    Family& family = families[family_of(graph.operations()[o].name)];
    family.milliseconds += median(times);
    family.flops += graph.operations()[o].flops;
    ++family.operations;
    sum += median(times);
    flops += graph.operations()[o].flops;
  }
  std::vector<std::pair<std::string, Family>> list(families.begin(), families.end());
  std::sort(list.begin(), list.end(), [](const auto& a, const auto& b) { return a.second.milliseconds > b.second.milliseconds; });
  const double step = median(steps), tokens = static_cast<double>(planned.options.tokens());
  fmt::print("{}, {}\n", describe(r.architecture, planned.options), session.program.device_name());
  fmt::print("one step: {:.3f} ms, {:.0f} tokens/s, {:.1f} TFLOP/s in products; its operations one by one: {:.3f} ms\n\n", step,
             tokens / step * 1e3, flops / step * 1e-9, sum);
  fmt::print("{:<36}{:>6}{:>11}{:>8}{:>11}\n", "operations", "", "ms", "share", "TFLOP/s");
  for (const auto& [name, family] : list) {
    fmt::print("{:<36}{:>6}{:>11.3f}{:>7.1f}%", name, family.operations, family.milliseconds, family.milliseconds / sum * 100);
    if (family.flops > 0) fmt::print("{:>11.1f}", family.flops / family.milliseconds * 1e-9);
    fmt::print("\n");
  }
  return 0;
}

}  // namespace

void add_bench(CLI::App& app, int& status) {
  auto s = std::make_shared<BenchSettings>();
  add_settings(app, s->common);
  app.add_option("--repeats", s->repeats, "times that each is run; the median counts")->capture_default_str();
  app.callback([s, &status] { status = bench(*s); });
}

}  // namespace neurogen
