// neurogen-engine bench: where a training step's time goes, beside the fastest product that this machine gives.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "arena/error.h"
#include "engine/brain/initialize.h"
#include "engine/run/session.h"
#include "kernels/matmul.h"
#include "kernels/random.h"
#include "kernels/step_control.h"
#include "tools/common/settings.h"
#include "tools/neurogen-engine/commands.h"

namespace neurogen {
namespace {

struct BenchSettings {
  Settings common;
  std::int64_t repeats = 3;
  bool json = false;
};

// The rate of one large square product in the type that the brain computes in, in operations a second: the best of a few.
double product_rate(const Resolved& r, std::int64_t n) {
  Brain probe;
  probe.options = r.options;
  const TensorId a = probe.graph.transient("a", r.options.compute, {n, n}), b = probe.graph.transient("b", r.options.compute, {n, n}),
                 c = probe.graph.transient("c", r.options.compute, {n, n});
  probe.graph.begin_program("product");
  probe.graph.operation("product", {a, b}, {c}, [=](auto& device, const Bindings& at) { matmul(device, {at[a], at[b], at[c]}); });
  Plan plan = plan_graph(probe.graph, {UINT64_MAX, 0});
  Session session(std::move(probe), std::move(plan), r.place);
  std::vector<std::uint16_t> row(static_cast<std::size_t>(n) * size_of(r.options.compute) / 2);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < row.size(); ++j) {  // numbers of ordinary size in every type
      row[j] = static_cast<std::uint16_t>(0x3C00 + below(1024, 1, static_cast<std::uint64_t>(i), j));
    }
    for (const TensorId operand : {a, b}) session.program.write(operand, row.data(), row.size() * 2, row.size() * 2 * static_cast<Bytes>(i));
  }
  double best = 1e30;
  for (int i = 0; i < 5; ++i) {
    session.program.run(session.brain.graph.program("product"));
    best = std::min(best, session.program.milliseconds() / 1e3);
  }
  return 2.0 * static_cast<double>(n * n * n) / best;
}

// Operations whose names differ in digits alone are one family.
std::string family_of(const std::string& name) {
  std::string family;
  for (char c : name) {
    if (c < '0' || c > '9') family += c;
    else if (family.empty() || family.back() != '#') family += '#';
  }
  return family;
}

struct Family {
  std::string name;
  std::int64_t count = 0;
  double seconds = 0, flops = 0, bytes = 0;
};

void random_batch(const Session& session, std::uint64_t index) {
  const TensorView batch = session.program.view(session.brain.host_batch);
  const auto vocabulary = static_cast<std::uint64_t>(session.brain.architecture.vocabulary);
  for (std::int64_t i = 0; i < batch.elements(); ++i) {
    batch.as<std::int32_t>()[i] = static_cast<std::int32_t>(below(vocabulary, 1, index, static_cast<std::uint64_t>(i)));
  }
}

int bench(const BenchSettings& s) {
  if (s.repeats < 1) throw Error(fmt::format("--repeats is {}: use at least 1", s.repeats));
  const Resolved r = resolve(s.common, false);
  const Fit planned = fit(r);
  if (!planned.fits()) return refuse("neurogen-engine", r, planned);
  const std::int64_t square = r.place.gpu ? 8192 : 2048;
  const double peak = product_rate(r, square);
  Session session(build_training(r.architecture, planned.options), planned.plan, r.place);
  initialize(session.brain, session.program, 1);

  // Every operation timed by itself, after one step that is not counted; whole steps are timed apart, without clocks inside.
  const Graph::Range train = session.brain.graph.program("train");
  const auto& operations = session.brain.graph.operations();
  std::map<std::string, Family> families;
  double step_seconds = 1e30;
  for (std::int64_t i = 0; i <= 2 * s.repeats; ++i) {
    random_batch(session, static_cast<std::uint64_t>(i));
    *session.program.view(session.brain.host_control).as<StepControl>() = {i, 1e-4f, 1e-4f, 1e-4f, 0};
    if (i > s.repeats) {
      session.program.run(train);
      step_seconds = std::min(step_seconds, session.program.milliseconds() / 1e3);
      continue;
    }
    for (std::size_t o = train.begin; o < train.end; ++o) {
      session.program.run({o, o + 1});
      if (i == 0) continue;
      Family& family = families[family_of(operations[o].name)];
      family.name = family_of(operations[o].name);
      family.seconds += session.program.milliseconds() / 1e3 / static_cast<double>(s.repeats);
      family.flops += operations[o].cost.flops / static_cast<double>(s.repeats);
      family.bytes += operations[o].cost.bytes / static_cast<double>(s.repeats);
      family.count += i == 1 ? 1 : 0;
    }
  }
  std::vector<Family> sorted;
  double sum = 0;
  for (const auto& [name, family] : families) sorted.push_back(family), sum += family.seconds;
  std::sort(sorted.begin(), sorted.end(), [](const Family& a, const Family& b) { return a.seconds > b.seconds; });

  const auto tokens = static_cast<double>(planned.options.tokens());
  const double useful = 6.0 * static_cast<double>(r.architecture.weights()) * tokens;
  const double share = useful / step_seconds / peak;
  if (s.json) {
    nlohmann::ordered_json out = {{"arch", r.architecture.name}, {"device", session.program.device_name()}, {"tokens_per_step", tokens},
                                  {"product_flops_per_s", peak}, {"step_seconds", step_seconds}, {"tokens_per_s", tokens / step_seconds},
                                  {"useful_flops", useful}, {"share_of_product_rate", share}, {"operations", nlohmann::json::array()}};
    for (const Family& f : sorted) {
      out["operations"].push_back({{"name", f.name}, {"count", f.count}, {"seconds", f.seconds}, {"flops", f.flops}, {"bytes", f.bytes},
                                   {"share", f.seconds / sum}});
    }
    fmt::print("{}\n", out.dump());
    return 0;
  }
  fmt::print("{}, on {}\n", describe(r.architecture, planned.options), session.program.device_name());
  fmt::print("best product of {} x {} matrices: {:.1f} GFLOP/s\n", square, square, peak / 1e9);
  fmt::print("one step: {:.1f} ms, {:.0f} tokens/s\n", step_seconds * 1e3, tokens / step_seconds);
  fmt::print("useful operations (6 x weights x tokens) at {:.1f} GFLOP/s: {:.1f} % of the best product's rate\n\n",
             useful / step_seconds / 1e9, 100 * share);
  fmt::print("{:<48}{:>6}{:>10}{:>8}{:>10}{:>10}\n", "operation", "count", "ms", "share", "GFLOP/s", "GB/s");
  const auto end = std::find_if(sorted.begin(), sorted.end(), [&](const Family& f) { return f.seconds < sum * 5e-4; });
  Family rest{.name = fmt::format("{} others, each less than 0.05 %", sorted.end() - end)};
  for (auto f = end; f != sorted.end(); ++f) {
    rest.count += f->count, rest.seconds += f->seconds, rest.flops += f->flops, rest.bytes += f->bytes;
  }
  sorted.erase(end, sorted.end());
  sorted.push_back(rest);
  for (const Family& f : sorted) {
    fmt::print("{:<48}{:>6}{:>10.2f}{:>7.1f}%{:>10.1f}{:>10.1f}\n", f.name, f.count, f.seconds * 1e3, 100 * f.seconds / sum,
               f.flops / f.seconds / 1e9, f.bytes / f.seconds / 1e9);
  }
  return 0;
}

}  // namespace

void add_bench(CLI::App& app, int& status) {
  auto s = std::make_shared<BenchSettings>();
  add_settings(app, s->common);
  app.add_option("--repeats", s->repeats, "steps to average over")->capture_default_str();
  app.add_flag("--json", s->json, "print one JSON object");
  app.callback([s, &status] { status = bench(*s); });
}

}  // namespace neurogen
