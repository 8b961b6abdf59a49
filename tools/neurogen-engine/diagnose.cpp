// neurogen-engine diagnose: shows where the time of training goes, compared with the original NeuroGen's way: token by token, with
// heap memory, copies and waits for each. Ends with a verdict and what to change.
#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "arena/error.h"
#include "arena/report.h"
#include "engine/data/draws.h"
#include "engine/model/initialize.h"
#include "engine/run/batch.h"
#include "engine/run/process.h"
#include "engine/run/stream.h"
#include "kernels/base/random.h"
#include "tools/common/card.h"
#include "tools/common/output.h"
#include "tools/common/settings.h"
#include "tools/neurogen-engine/commands.h"
#include "tools/neurogen-engine/text.h"
#include "tools/neurogen-engine/timing.h"

namespace neurogen {
namespace {

constexpr std::int64_t kTokens = 500;  // measured one at a time

struct DiagnoseSettings {
  Settings common;
  TextSettings text;
  std::int64_t repeats = 5;
  bool json = false;
};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
double cpu_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec); };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// The costs of one way to work on `tokens` tokens: seconds and counts.
struct Way {
  double tokens = 0, wall = 0, cpu = 0, device = 0;                                         // device: busy, by its own clock
  double input = 0, copying = 0, waiting = 0, allocating = 0, computing = 0, updating = 0;  // parts of wall
  double allocations = 0, device_allocations = 0, synchronizations = 0;
  double churned = 0;  // bytes allocated and freed, and bytes copied between host and device
};

// Adds the costs of the process during its lifetime to a Way.
class Meter {
 public:
  Meter(Way& way, const Program& program) : way_(way), program_(program) {}
  ~Meter() {
    way_.wall += now() - begin_;
    way_.cpu += cpu_seconds() - cpu_;
    way_.allocations += static_cast<double>(heap_counters().allocations - allocations_);
    way_.device_allocations += static_cast<double>(Block::gpu_requests() - requests_);
    way_.synchronizations += static_cast<double>(program_.synchronizations() - waits_);
  }

 private:
  Way& way_;
  const Program& program_;
  double begin_ = now(), cpu_ = cpu_seconds();
  std::uint64_t allocations_ = heap_counters().allocations;
  std::int64_t requests_ = Block::gpu_requests(), waits_ = program_.synchronizations();
};

bool touches_host(const Graph& graph, const Operation& operation) {
  const auto on_host = [&](TensorId id) { return graph.tensors()[id.index].arena == ArenaKind::host; };
  return std::any_of(operation.reads.begin(), operation.reads.end(), on_host) ||
         std::any_of(operation.writes.begin(), operation.writes.end(), on_host);
}

// Seconds that a step's operations spend on copying, updating and computing, each operation timed separately.
struct Shares {
  double copying = 0, updating = 0, computing = 0, copied_bytes = 0;
  double moving = 0, multiplying = 0;  // floor seconds set by bytes, and by products
};
Shares shares_of(Session& session, const Limits& limits, const std::vector<OperationTimes>& families) {
  const Graph& graph = session.model.graph;
  const Graph::Range train = session.model.programs.train;
  std::vector<std::string> copies;
  Shares s;
  for (std::size_t o = train.begin; o < train.end; ++o) {
    const Operation& operation = graph.operations()[o];
    (operation.cost.bytes / limits.bytes_per_s > operation.cost.flops / limits.flops_per_s ? s.moving : s.multiplying) +=
        floor_seconds(operation, limits.bytes_per_s, limits.flops_per_s);
    if (touches_host(graph, operation)) copies.push_back(family_of(operation.name));
  }
  for (const Buffer& tensor : graph.tensors()) {
    if (tensor.arena == ArenaKind::host) s.copied_bytes += static_cast<double>(size_of(tensor.dtype, tensor.shape));
  }
  for (const OperationTimes& f : families) {
    const bool copy = std::find(copies.begin(), copies.end(), f.name) != copies.end();
    (copy ? s.copying : f.name.find("update") != std::string::npos ? s.updating : s.computing) += f.seconds;
  }
  return s;
}

struct Diagnosis {
  std::string title, device, text;
  bool gpu = false;
  double window = 0;
  Way single, batched;
  Shares shares;
};

void measure_batched(const DiagnoseSettings& s, const Resolved& r, Fit fit, const Limits& limits, Diagnosis& d) {
  Session session(std::move(fit), r.place);
  const StepOptions& options = session.model.options;
  initialize(session.model, session.program, 1);
  d.device = session.program.device_name();
  std::optional<Texts> texts;
  std::optional<Draws> draws;
  if (!s.text.data.empty()) {
    texts.emplace(s.text, r.architecture->vocabulary());
    draws.emplace(texts->train, options.window, options.batch, 1);
  }
  d.text =
      texts ? fmt::format("{}", fmt::join(s.text.data, ", ")) : "random tokens (name a text with --data to see how it is read)";
  d.shares = shares_of(session, limits, time_operations(session, limits, 1));
  const double timed = d.shares.copying + d.shares.updating + d.shares.computing;
  for (std::int64_t i = 0; i <= s.repeats; ++i) {
    if (i == 1) d.batched = {};  // drops the first step, the warm-up
    const Meter meter(d.batched, session.program);
    const double begin = now();
    if (draws) {
      for (std::int64_t b = 0; b < options.batch; ++b) {
        fill_sequence(session.model, session.program, texts->train, b, draws->begin(i % draws->steps_per_epoch(), b),
                      options.window);
      }
    } else {
      random_batch(session, static_cast<std::uint64_t>(i));
    }
    const double filled = now(), worked = run_step(session, i);
    d.batched.tokens += static_cast<double>(options.tokens());
    d.batched.device += worked;
    d.batched.input += filled - begin;
    d.batched.copying += worked * d.shares.copying / timed;
    d.batched.updating += worked * d.shares.updating / timed;
    d.batched.computing += worked * d.shares.computing / timed;
    d.batched.waiting += std::max(0.0, now() - filled - worked);
    d.batched.churned += d.shares.copied_bytes;
  }
}

// Measures the original's way: for every token a new vector for its embedding, read and written back with a copy and a wait each, a
// step, and a new vector for the output.
void measure_single(const Resolved& r, Diagnosis& d) {
  Session session(planned(build_stream(r.architecture, r.options), r.budget), r.place);
  initialize(session.model, session.program, 1);
  Stream stream(session.model, session.program);
  const TensorId embedding = session.model.parameter("embedding.weight").value;
  const Buffer& table = session.arena.plan().buffers[embedding.index];
  const Bytes row = table.bytes / static_cast<Bytes>(table.shape[0]);
  for (std::int64_t i = 0; i <= kTokens; ++i) {
    if (i == 1) d.single = {};
    if (i % r.options.window == 0) stream.reset();  // a model may know no more positions
    const Meter meter(d.single, session.program);
    const auto token = static_cast<std::int32_t>(
        below(static_cast<std::uint64_t>(r.architecture->vocabulary()), 1, 0, static_cast<std::uint64_t>(i)));
    const double begin = now();
    std::vector<std::byte> embedded(row);
    const double allocated = now();
    session.program.read(embedding, embedded.data(), row, row * static_cast<Bytes>(token));
    session.program.write(embedding, embedded.data(), row, row * static_cast<Bytes>(token));
    const double copied = now();
    const TensorView logits = stream.step(token);
    const double stepped = now(), worked = session.program.milliseconds() / 1e3;
    const Bytes bytes = size_of(logits);
    std::vector<std::byte> output(bytes);
    const double allocated_again = now();
    std::copy_n(logits.as<std::byte>(), bytes, output.data());
    d.single.tokens += 1;
    d.single.device += worked;
    d.single.allocating += allocated - begin + allocated_again - stepped;
    d.single.copying += copied - allocated + now() - allocated_again;
    d.single.computing += worked;
    d.single.waiting += std::max(0.0, stepped - copied - worked);
    // Both vectors, and the copies: the row twice, the output twice.
    d.single.churned += static_cast<double>(3 * row + 3 * bytes);
  }
}

struct Verdict {
  std::string bound, change;
};
Verdict verdict_of(const Diagnosis& d) {
  const Way& b = d.batched;
  if (b.input > 0.3 * b.wall) return {"input-bound", "make tokens of the text first (corpus make), on a faster disk"};
  if (b.waiting + b.copying > 0.3 * b.wall) return {"launch-bound", "use a larger --batch, so that each launch does more"};
  if (d.shares.moving > d.shares.multiplying) {
    return {"bandwidth-bound",
            "use a larger --batch, so that weights are moved for more tokens, or narrower types (--compute, --decoder-storage)"};
  }
  return {"compute-bound", "products set the pace: use a faster device, narrower types or a smaller --arch"};
}

struct Row {
  std::string name, unit;
  double single, batched;
};
std::vector<Row> rows_of(const Diagnosis& d) {
  const Way &a = d.single, &b = d.batched;
  std::vector<Row> rows = {{"tokens_per_s", "", a.tokens / a.wall, b.tokens / b.wall}};
  const auto each = [&](const char* name, const char* unit, double Way::*field, double factor) {  // per sequence
    rows.push_back({name, unit, a.*field / a.tokens * d.window * factor, b.*field / b.tokens * d.window * factor});
  };
  each("time", "ms", &Way::wall, 1e3);
  each("input", "ms", &Way::input, 1e3);
  each("copying", "ms", &Way::copying, 1e3);
  each("launching_and_waiting", "ms", &Way::waiting, 1e3);
  each("allocating", "ms", &Way::allocating, 1e3);
  each("computing", "ms", &Way::computing, 1e3);
  each("updating", "ms", &Way::updating, 1e3);
  rows.push_back({"cpu_use", "%", 100 * a.cpu / a.wall, 100 * b.cpu / b.wall});
  rows.push_back({"device_use", "%", 100 * a.device / a.wall, 100 * b.device / b.wall});
  each("heap_allocations", "", &Way::allocations, 1);
  each("device_allocations", "", &Way::device_allocations, 1);
  each("synchronizations", "", &Way::synchronizations, 1);
  each("bytes_churned", "", &Way::churned, 1);
  return rows;
}

int diagnose(DiagnoseSettings s) {
  if (s.repeats < 1) throw Error(fmt::format("--repeats is {}: use at least 1", s.repeats));
  take_weights(s.text);
  const Resolved r = resolve(s.common, false);
  Fit planned = fit(r);
  if (!planned.fits()) return refuse("neurogen-engine", r, planned);
  Diagnosis d;
  d.title = describe(*r.architecture, planned.model.options);
  d.window = static_cast<double>(planned.model.options.window);
  const Limits limits = measure_limits(r, planned.model.options.tokens());
  measure_batched(s, r, std::move(planned), limits, d);
  measure_single(r, d);
  const Verdict verdict = verdict_of(d);
  if (s.json) {
    nlohmann::ordered_json out = {
        {"device", d.device}, {"text", d.text}, {"tokens_in_a_sequence", d.window}, {"single_tokens", kTokens}};
    for (const Row& row : rows_of(d))
      out["rows"][row.name] = {{"unit", row.unit}, {"token_by_token", row.single}, {"batched", row.batched}};
    out["verdict"] = verdict.bound;
    out["change"] = verdict.change;
    print_out("{}\n", out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    return 0;
  }
  print_out("{}, on {}\ntrained on {}\n", d.title, d.device, d.text);
  print_out(
      "token by token: {} tokens, predicted only, each with vectors from the heap, two copies and waits for its embedding, a "
      "step, a copy "
      "of its output\n\nfor a sequence of {:.0f} tokens{:>26}{:>16}{:>12}\n",
      kTokens, d.window, "token by token", "batched", "ratio");
  for (const Row& row : rows_of(d)) {
    std::string name = row.name;
    std::replace(name.begin(), name.end(), '_', ' ');
    print_out("{:<31}{:>23.6g} {:<2}{:>13.6g} {:<2}{:>11}\n", name, row.single, row.unit, row.batched, row.unit,
              row.batched > 0 ? fmt::format("{:.3g}", row.single / row.batched) : "");
  }
  print_out("\nthe batched step is {}: {}\n", verdict.bound, verdict.change);
  return 0;
}

}  // namespace

void add_diagnose(CLI::App& app, int& status) {
  auto s = std::make_shared<DiagnoseSettings>();
  add_settings(app, s->common);
  add_text_settings(app, s->text);
  app.add_option("--repeats", s->repeats, "steps to average")->capture_default_str();
  app.add_flag("--json", s->json, "print one JSON object");
  app.callback([s, &status] { status = diagnose(*s); });
}

}  // namespace neurogen
