// neurogen-engine bench: measures where a training step's time goes and compares it with the machine's limits, and with one window
// or one token at a time.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "arena/error.h"
#include "engine/model/initialize.h"
#include "engine/run/session.h"
#include "engine/run/stream.h"
#include "kernels/base/random.h"
#include "tools/common/output.h"
#include "tools/neurogen-engine/commands.h"
#include "tools/neurogen-engine/timing.h"

namespace neurogen {
namespace {

struct BenchSettings {
  Settings common;
  std::int64_t repeats = 3;
  bool json = false, compare = false;
};

// Tokens per second with each of a step's windows trained in a step of its own.
double one_window_at_a_time(const Resolved& r, std::int64_t windows) {
  StepOptions options = r.options;
  options.batch = options.accumulate = 1;
  Session session(fit_training(r.architecture, options, r.budget), r.place);
  initialize(session.model, session.program, 1);
  training_step(session, 0);
  double seconds = 0;
  for (std::int64_t i = 1; i <= windows; ++i) seconds += training_step(session, i);
  return static_cast<double>(windows * options.window) / seconds;
}

// Tokens per second through the stream, which only predicts.
double one_token_at_a_time(const Resolved& r, std::int64_t tokens) {
  Session session(planned(build_stream(r.architecture, r.options), r.budget), r.place);
  initialize(session.model, session.program, 1);
  Stream stream(session.model, session.program);
  const auto vocabulary = static_cast<std::uint64_t>(r.architecture->vocabulary());
  double seconds = 0;
  for (std::int64_t i = 0; i <= tokens; ++i) {
    stream.step(static_cast<std::int32_t>(below(vocabulary, 1, 0, static_cast<std::uint64_t>(i))));
    if (i > 0) seconds += session.program.milliseconds() / 1e3;
  }
  return static_cast<double>(tokens) / seconds;
}

constexpr std::int64_t kStreamedTokens = 500;

struct Measured {
  Limits limits;
  std::string title, device;
  double tokens = 0, useful_flops = 0;         // per step
  double step = 1e30, forward = 1e30;          // seconds of a whole step, and of evaluating as many tokens
  double windows_apart = 0, tokens_apart = 0;  // tokens per second, with --compare
  std::vector<OperationTimes> operations;
  OperationTimes all;  // their sum
};

Measured measure(const BenchSettings& s, const Resolved& r, Fit fit) {
  Measured m;
  const StepOptions options = fit.model.options;
  m.tokens = static_cast<double>(options.step_tokens());
  m.useful_flops = 6.0 * static_cast<double>(r.architecture->weights()) * m.tokens;
  m.title = describe(*r.architecture, options);
  m.limits = measure_limits(r, options.tokens());
  {
    Session session(std::move(fit), r.place);
    initialize(session.model, session.program, 1);
    m.device = session.program.device_name();
    m.operations = time_operations(session, m.limits, s.repeats);
    for (const OperationTimes& f : m.operations) m.all += f;
    for (std::int64_t i = 1; i <= s.repeats; ++i)
      m.step = std::min(m.step, training_step(session, s.repeats + i));  // without timing single operations
    for (std::int64_t i = 0; s.compare && i < s.repeats; ++i) {
      session.program.run(session.model.programs.evaluate);
      m.forward = std::min(m.forward, static_cast<double>(options.accumulate) * session.program.milliseconds() / 1e3);
    }
  }
  if (s.compare) {
    m.windows_apart = one_window_at_a_time(r, options.step_sequences());
    m.tokens_apart = one_token_at_a_time(r, kStreamedTokens);
  }
  return m;
}

void print_json(const BenchSettings& s, const Resolved& r, const Measured& m) {
  const double batched = m.tokens / m.step, forward = m.tokens / m.forward;
  nlohmann::ordered_json out = {{"arch", r.architecture->name()},
                                {"device", m.device},
                                {"tokens_per_step", m.tokens},
                                {"product_flops_per_s", m.limits.flops_per_s},
                                {"copy_bytes_per_s", m.limits.bytes_per_s},
                                {"step_seconds", m.step},
                                {"tokens_per_s", batched},
                                {"useful_flops", m.useful_flops},
                                {"share_of_product_rate", m.useful_flops / m.step / m.limits.flops_per_s},
                                {"decoder_products_seconds", m.limits.decoder_seconds},
                                {"step_over_decoder_products", m.step / m.limits.decoder_seconds},
                                {"floor_seconds", m.all.floor}};
  if (s.compare) {
    const auto compared = [](double apart, double together) {
      return nlohmann::ordered_json{{"tokens_per_s", apart}, {"batched_tokens_per_s", together}, {"ratio", together / apart}};
    };
    out["one_window_at_a_time"] = compared(m.windows_apart, batched);
    out["one_token_at_a_time"] = compared(m.tokens_apart, forward);
  }
  out["operations"] = nlohmann::json::array();
  for (const OperationTimes& f : m.operations) {
    out["operations"].push_back({{"name", f.name},
                                 {"count", f.count},
                                 {"seconds", f.seconds},
                                 {"floor_seconds", f.floor},
                                 {"flops", f.flops},
                                 {"bytes", f.bytes},
                                 {"share", f.seconds / m.all.seconds}});
  }
  print_out("{}\n", out.dump());
}

void print_operations(const Measured& m) {
  print_out("\n{:<44}{:>6}{:>10}{:>8}{:>10}{:>9}{:>10}{:>9}\n", "operation", "count", "ms", "share", "floor ms", "x floor",
            "GFLOP/s", "GB/s");
  const auto line = [&](const OperationTimes& f) {
    print_out("{:<44}{:>6}{:>10.2f}{:>7.1f}%{:>10.2f}{:>9.2f}{:>10.1f}{:>9.1f}\n", f.name, f.count, f.seconds * 1e3,
              100 * f.seconds / m.all.seconds, f.floor * 1e3, f.seconds / f.floor, f.flops / f.seconds / 1e9,
              f.bytes / f.seconds / 1e9);
  };
  OperationTimes rest, all = m.all;
  std::size_t others = 0;
  for (const OperationTimes& f : m.operations) {
    if (f.seconds >= m.all.seconds * 5e-4) line(f);
    else rest += f, ++others;
  }
  rest.name = fmt::format("{} others, each less than 0.05 %", others);
  all.name = "all";
  if (others > 0) line(rest);
  line(all);
}

void print_report(const BenchSettings& s, const Measured& m) {
  const double rate = m.tokens / m.step;
  print_out("{}, on {}\n", m.title, m.device);
  print_out("best product of {} x {} matrices: {:.1f} GFLOP/s; large copies: {:.1f} GB/s\n", m.limits.square, m.limits.square,
            m.limits.flops_per_s / 1e9, m.limits.bytes_per_s / 1e9);
  print_out("one step: {:.1f} ms, {:.0f} tokens/s\n", m.step * 1e3, rate);
  print_out("useful operations (6 x weights x tokens) at {:.1f} GFLOP/s: {:.1f} % of the best product's rate\n",
            m.useful_flops / m.step / 1e9, 100 * m.useful_flops / m.step / m.limits.flops_per_s);
  print_out("only the decoder's three products, one after another: {:.1f} ms; a step is {:.3f} times that\n",
            m.limits.decoder_seconds * 1e3, m.step / m.limits.decoder_seconds);
  if (s.compare) {
    const double forward = m.tokens / m.forward;
    print_out("the same windows one at a time: {:.1f} tokens/s; the batch at once is {:.2f} times as fast\n", m.windows_apart,
              rate / m.windows_apart);
    print_out(
        "{} tokens one at a time, prediction only: {:.1f} tokens/s; a batch at once, {:.1f} tokens/s, is {:.2f} times as "
        "fast\n",
        kStreamedTokens, m.tokens_apart, forward, forward / m.tokens_apart);
  }
  print_operations(m);
}

int bench(const BenchSettings& s) {
  if (s.repeats < 1) throw Error(fmt::format("--repeats is {}: use at least 1", s.repeats));
  const Resolved r = resolve(s.common, false);
  Fit planned = fit(r);
  if (!planned.fits()) return refuse("neurogen-engine", r, planned);
  const Measured m = measure(s, r, std::move(planned));
  if (s.json) print_json(s, r, m);
  else print_report(s, m);
  return 0;
}

}  // namespace

void add_bench(CLI::App& app, int& status) {
  auto s = std::make_shared<BenchSettings>();
  add_settings(app, s->common);
  add_accumulate(app, s->common);
  app.add_option("--repeats", s->repeats, "steps to average")->capture_default_str();
  app.add_flag("--compare", s->compare, "also time the sequences one at a time, and the tokens one at a time");
  app.add_flag("--json", s->json, "print one JSON object");
  app.callback([s, &status] { status = bench(*s); });
}

}  // namespace neurogen
