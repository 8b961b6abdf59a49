// neurogen-engine train: plan, take the memory, train, and say how it went.
#include <fmt/format.h>

#include <cfloat>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "arena/error.h"
#include "arena/report.h"
#include "engine/brain/initialize.h"
#include "engine/files/file_io.h"
#include "engine/files/log.h"
#include "engine/files/tokenizer.h"
#include "engine/run/evaluator.h"
#include "engine/run/process.h"
#include "engine/run/session.h"
#include "engine/run/signals.h"
#include "engine/run/trainer.h"
#include "kernels/loss_scale.h"
#include "tools/common/progress.h"
#include "tools/common/settings.h"
#include "tools/neurogen-engine/checkpoints.h"
#include "tools/neurogen-engine/commands.h"
#include "tools/neurogen-engine/observer.h"
#include "tools/neurogen-engine/text.h"
#include "tools/neurogen-engine/trained.h"

namespace neurogen {
namespace {

constexpr std::int64_t kEvaluatedTokens = 40 * 32 * 256;  // of the held-out text while training goes on
constexpr std::int64_t kEstimateSteps = 50;               // after which --minutes becomes a number of steps

struct TrainSettings {
  Settings common;
  TextSettings text;
  CheckpointSettings checkpoints;
  Rates rates;
  std::int64_t steps = 0, seed = 1, eval_every = 0;
  double epochs = 0, minutes = 0;
  std::string init, log, progress = "auto", export_file;
};

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

// One training run, from the first step to the summary.
class Run {
 public:
  // `steps`: of the whole run, 0: not known yet.
  Run(const TrainSettings& settings, Session& session, const Texts& texts, std::int64_t steps, Checkpoints& checkpoints, Log log)
      : settings_(settings),
        session_(session),
        texts_(texts),
        checkpoints_(checkpoints),
        trainer_(session.brain, session.program, texts.train, settings.rates, static_cast<std::uint64_t>(settings.seed),
                 checkpoints.standing().steps),
        evaluator_(session.brain, session.program),
        observer_(session, texts, !settings.log.empty()),
        log_(std::move(log)),
        progress_(settings.progress),
        steps_(steps),
        first_(trainer_.step()) {}

  // A run that goes on takes back what it will log again, and says where it goes on.
  void log_start(const ReportFacts& facts) {
    std::string begin = "\"event\":\"start\"";
    if (checkpoints_.from()) {
      rewind_log(settings_.log, first_);
      begin = fmt::format("\"event\":\"resume\",\"step\":{}", first_);
    }
    log_.line(fmt::format("{{{},\"plan\":{},\"device\":\"{}\",\"arch\":{},\"seed\":{}}}", begin,
                          plan_json(session_.arena.plan(), facts), session_.program.device_name(),
                          to_json(session_.brain.architecture), settings_.seed));
    observer_.log_program(log_, first_);
  }

  // Stops if arenas, a snapshot in the budget and what is measured beside them exceed the budget.
  void check_overhead() {
    const Plan& plan = session_.arena.plan();
    const Bytes arenas = plan.total() - plan.overhead;
    overhead_ = measured_overhead();
    if (arenas + overhead_ > plan.budget) {
      throw Error(
          fmt::format("what lies beside the arenas takes {} bytes, {} were set aside and the budget is {} with {} of {}: pass "
                      "--overhead {} or a larger --budget",
                      with_commas(overhead_), with_commas(plan.overhead), with_commas(plan.budget),
                      plan.snapshot == Snapshot::in_budget ? "arenas and a snapshot" : "arenas", with_commas(arenas), overhead_),
          Error::kRunTime);
    }
  }

  int train() {
    try {
      return run_to_the_end();
    } catch (...) {
      checkpoints_.report(log_, true);  // of a save that goes on beside training
      throw;
    }
  }

 private:
  int run_to_the_end() {
    catch_signals();
    check_overhead();
    sealed_ = heap_counters();
    const std::int64_t gpu_sealed = Block::gpu_requests();
    begin_ = Clock::now();
    while ((steps_ == 0 || trainer_.step() < steps_) && !caught_signal()) {
      const Clock::time_point step_begin = Clock::now();
      const std::int64_t waits = session_.program.synchronizations();
      const bool watched = evaluates_after(trainer_.step() + 1);
      if (watched) observer_.time_next_step();
      const StepResult result = trainer_.run_step(steps_ > 0 ? steps_ : INT64_MAX);
      const double seconds = seconds_since(step_begin);
      training_seconds_ += seconds;
      check_finite(result, trainer_.step());
      report(result, seconds,
             {allocations_since_the_seal(), Block::gpu_requests() - gpu_sealed, session_.program.synchronizations() - waits});
      checkpoints_.report(log_, false);
      if (watched) observer_.log_times(log_, trainer_.step());
      if (steps_ == 0 && own_steps() == kEstimateSteps) estimate_steps();
      if (trainer_.step() == steps_) break;
      if (evaluates_after(trainer_.step())) evaluate();
      if (checkpoints_.due(trainer_.step())) save(false);
    }
    if (texts_.valid && !caught_signal()) evaluate();
    const bool saved = !checkpoints_.on() || save(true);
    allocations_ = allocations_since_the_seal();
    progress_.finish();
    summarise();
    return !saved ? 1 : caught_signal() ? 128 + caught_signal() : 0;
  }

  // What the process holds beside its arenas: on the GPU where it has one, else in its own memory.
  Bytes measured_overhead() const {
    const Plan& plan = session_.arena.plan();
    const Bytes gpu = session_.program.gpu_bytes();
    const Bytes held = gpu > 0 ? gpu : resident_anonymous_bytes();
    // What is mapped from a checkpoint is the process's own page by page, as it is changed.
    const Block& device = session_.arena.block(ArenaKind::device);
    const Bytes arenas =
        gpu > 0 ? plan.device.bytes : plan.total() - plan.overhead - device.mapped() + copied_bytes(device.data(), device.mapped());
    return held > arenas ? held - arenas : 0;
  }
  std::int64_t tokens() const { return trainer_.step() * session_.brain.options.tokens(); }
  std::int64_t own_steps() const { return trainer_.step() - first_; }  // done in this process
  std::int64_t own_tokens() const { return own_steps() * session_.brain.options.tokens(); }
  double rate() const { return static_cast<double>(own_tokens()) / std::max(training_seconds_, 1e-9); }

  bool evaluates_after(std::int64_t step) const {
    return step == steps_ || (settings_.eval_every > 0 && step % settings_.eval_every == 0);
  }

  void estimate_steps() {
    const double per_step = training_seconds_ / static_cast<double>(kEstimateSteps);
    steps_ = std::max<std::int64_t>(trainer_.step() + 1, std::llround(settings_.minutes * 60 / per_step));
  }

  // A measured loss says which checkpoint is the best.
  bool save(bool last) {
    if (checkpoints_.wants_evaluation() && evaluated_ != trainer_.step() && !caught_signal()) evaluate();
    Standing standing{trainer_.step(), steps_};
    if (evaluated_ == trainer_.step()) standing.held_out_loss = valid_loss_;
    return checkpoints_.save(standing, log_, last);
  }

  struct Allocations {
    std::uint64_t host, driver;  // heap_counters
  };
  Allocations allocations_since_the_seal() const {
    const HeapCounters now = heap_counters();
    return {now.allocations - sealed_.allocations, now.driver_allocations - sealed_.driver_allocations};
  }

  struct Counts {
    Allocations allocations;                            // since the seal
    std::int64_t device_allocations, synchronizations;  // since the seal; in this step
  };

  void report(const StepResult& result, double seconds, Counts counts) {
    loss_ = result.loss;
    smooth_ = own_steps() == 1 ? result.loss : 0.95 * smooth_ + 0.05 * result.loss;
    char line[1024];
    const auto end = fmt::format_to_n(
        line, sizeof line,
        "{{\"event\":\"step\",\"step\":{},\"tokens\":{},\"loss\":{:.6f},\"lr\":{:.6g},\"grad_norm\":{:.6g},\"tokens_per_s\":{:.1f},"
        "\"device_ms\":{:.3f},\"host_allocations\":{},\"driver_allocations\":{},\"device_allocations\":{},\"synchronizations\":{}",
        trainer_.step(), tokens(), result.loss, result.rate, std::isfinite(result.grad_norm) ? result.grad_norm : 0,
        static_cast<double>(session_.brain.options.tokens()) / seconds, session_.program.milliseconds(), counts.allocations.host,
        counts.allocations.driver, counts.device_allocations, counts.synchronizations);
    const auto rest =
        session_.brain.loss_scale
            ? fmt::format_to_n(end.out, line + sizeof line - end.out, ",\"loss_scale\":{},\"skipped\":\"{}\"}}", result.loss_scale,
                               result.overflow == 0                        ? "none"
                               : (result.overflow & kDecoderOverflow) == 0 ? "brain"
                                                                           : "brain and decoder")
            : fmt::format_to_n(end.out, line + sizeof line - end.out, "}}");
    log_.line({line, static_cast<std::size_t>(rest.out - line)});
    const double left = steps_ > 0
                            ? training_seconds_ / static_cast<double>(own_steps()) * static_cast<double>(steps_ - trainer_.step())
                            : settings_.minutes * 60 - training_seconds_;
    char* text = fmt::format_to(line, "step {}", trainer_.step());
    if (steps_ > 0) text = fmt::format_to(text, "/{}", steps_);
    text = fmt::format_to(text, "  loss {:.4f}  {:.0f} tokens/s", smooth_, rate());
    progress_.show(steps_ > 0 ? static_cast<double>(trainer_.step()) / static_cast<double>(steps_) : -1, {line, text}, left);
  }

  void evaluate() {
    valid_loss_ = evaluator_.run(*texts_.valid, kEvaluatedTokens).loss;
    evaluated_ = trainer_.step();
    if (!std::isfinite(valid_loss_)) {
      throw Error(fmt::format("the held-out loss after step {} is not finite: train with a lower --lr", trainer_.step()),
                  Error::kRunTime);
    }
    char line[512];
    // JSON knows no infinity.
    const auto end =
        fmt::format_to_n(line, sizeof line, "{{\"event\":\"eval\",\"step\":{},\"valid_loss\":{:.6f},\"perplexity\":{:.7g}}}",
                         trainer_.step(), valid_loss_, std::min(std::exp(valid_loss_), DBL_MAX));
    log_.line({line, end.size});
    observer_.log_evaluation(log_, trainer_.step());
  }

  void summarise() {
    const Plan& plan = session_.arena.plan();
    const Bytes arenas = plan.device.bytes + plan.host.bytes;
    overhead_ = std::max(overhead_, measured_overhead());
    log_.line(
        fmt::format("{{\"event\":\"summary\",\"steps\":{},\"tokens\":{},\"tokens_per_s\":{:.1f},\"loss\":{:.6f},"
                    "\"peak_device_bytes\":{},\"overhead_bytes\":{},\"budget_bytes\":{}}}",
                    trainer_.step(), tokens(), rate(), loss_, std::max(plan.device.bytes, session_.program.gpu_bytes()), overhead_,
                    plan.budget));
    fmt::print("{} {} steps{}, {} tokens in {:.1f} s ({:.0f} tokens/s), loss of the last step {:.4f}\n",
               caught_signal() ? "stopped after" : "trained", trainer_.step(),
               first_ > 0 ? fmt::format(" ({} of them before)", first_) : "", with_commas(static_cast<Bytes>(own_tokens())),
               seconds_since(begin_), rate(), loss_);
    if (evaluated_ == trainer_.step())
      fmt::print("held-out loss {:.4f} nats a token, perplexity {:.1f}\n", valid_loss_, std::exp(valid_loss_));
    const std::string snapshot =
        plan.snapshot == Snapshot::none ? "" : fmt::format(", snapshot {}", with_commas(plan.snapshot_bytes()));
    fmt::print("memory: arenas {} bytes{}, beside them {} of {} set aside, budget {}; allocations since the seal: {}{}\n",
               with_commas(arenas), snapshot, with_commas(overhead_), with_commas(plan.overhead), with_commas(plan.budget),
               allocations_.host, allocations_.driver > 0 ? fmt::format(", and {} of the GPU's driver", allocations_.driver) : "");
  }

  const TrainSettings& settings_;
  Session& session_;
  const Texts& texts_;
  Checkpoints& checkpoints_;
  Trainer trainer_;
  Evaluator evaluator_;
  Observer observer_;
  Log log_;
  Progress progress_;
  std::int64_t steps_;           // 0: not known yet
  std::int64_t first_;           // steps that were done before
  std::int64_t evaluated_ = -1;  // after so many steps
  Clock::time_point begin_;
  double training_seconds_ = 0, loss_ = 0, smooth_ = 0, valid_loss_ = 0;
  Bytes overhead_ = 0;
  HeapCounters sealed_;
  Allocations allocations_{};
};

void check_run_length(const TrainSettings& s) {
  if ((s.steps > 0) + (s.epochs > 0) + (s.minutes > 0) > 1)
    throw Error("--steps, --epochs and --minutes exclude each other: give one");
  if (!(s.epochs >= 0 && s.epochs <= 1e9)) throw Error(fmt::format("--epochs is {}: use a positive number", s.epochs));
  if (!(s.minutes >= 0 && s.minutes <= 1e9)) throw Error(fmt::format("--minutes is {}: use a positive number", s.minutes));
  if (s.eval_every < 0) throw Error(fmt::format("--eval-every is {}: use a number of steps, or 0 for the end alone", s.eval_every));
  check_rates(s.rates);
}

// A slip of the hand must not cost a corpus.
void keep_inputs(const TrainSettings& s) {
  std::vector<std::string> inputs = s.text.data;
  inputs.insert(inputs.end(), {s.text.valid, s.text.tokenizer, s.init});
  for (const auto& [flag, output] : {std::pair{"--log", s.log}, {"--export", s.export_file}}) {
    for (const std::string& input : inputs) {
      std::error_code missing;
      if (!output.empty() && !input.empty() && std::filesystem::equivalent(input, output, missing)) {
        throw Error(fmt::format("{} would overwrite {}, which is read: name another file", flag, input));
      }
    }
  }
}

// Of the whole run, 0: not known yet.
std::int64_t schedule_of(const TrainSettings& s, const Standing& before, std::int64_t steps_per_epoch) {
  if (s.steps > 0) return s.steps;
  if (s.minutes > 0) return before.schedule_steps;  // what was estimated stays
  return std::max<std::int64_t>(1, std::llround((s.epochs > 0 ? s.epochs : 1) * static_cast<double>(steps_per_epoch)));
}

// What this run would save before its first step. `before`: the run that it goes on with.
Manifest manifest_of(const TrainSettings& s, const Architecture& architecture, const BrainOptions& options, const Texts& texts,
                     const Checkpoints& before) {
  Manifest m;
  m.architecture = architecture;
  m.options = options;
  m.rates = s.rates;
  m.seed = static_cast<std::uint64_t>(s.seed);
  m.steps_per_epoch = Draws(texts.train, options.window, options.batch, m.seed).steps_per_epoch();
  m.standing.schedule_steps = schedule_of(s, before.standing(), m.steps_per_epoch);
  m.text = {texts.train.size(), texts.train.hash(), texts.train.weights()};
  if (const Checkpoint* from = before.from(); from && from->manifest().text.hash != m.text.hash && m.text.weights.empty()) {
    m.text.hash = texts.train.hash_of_all();  // what earlier versions saved of long texts
  }
  m.tokenizer = texts.tokenizer ? texts.tokenizer->hash() : 0;
  m.tensors = persistent_layout(architecture, options.compute, options.decoder_storage);
  return m;
}

void export_to(const TrainSettings& s, const Session& session, const Texts& texts) {
  if (s.export_file.empty()) return;
  export_parameters(session.brain, session.program, s.export_file, texts.tokenizer_hash());
  fmt::print("parameters written to {}\n", s.export_file);
}

int train(TrainSettings s) {
  check_run_length(s);
  if (s.common.snapshot && s.checkpoints.directory.empty()) {
    throw Error("--snapshot saves beside training: name a directory for checkpoints with --checkpoint-dir DIR");
  }
  if (s.common.separate_buffers && !s.checkpoints.directory.empty()) {
    throw Error("--separate-buffers scatters what a checkpoint holds in one piece: leave out --checkpoint-dir");
  }
  find_demonstration_text(s.text);
  take_weights(s.text);
  if (s.eval_every > 0 && s.text.valid.empty()) throw Error("--eval-every needs a held-out text: name one with --valid");
  keep_inputs(s);
  Checkpoints checkpoints(s.checkpoints, !s.text.valid.empty());
  checkpoints.adopt(s.common);
  std::optional<Checkpoint> initial;
  if (!checkpoints.from() && !s.init.empty() && is_checkpoint(s.init)) {
    initial.emplace(s.init);
    s.common.architecture_json = to_json(initial->manifest().architecture);
  }
  const Resolved resolved = resolve(s.common, false);
  if (initial) check_architecture(*initial, resolved.architecture);
  const Fit planned = fit(resolved);
  if (!planned.fits()) return refuse("neurogen-engine", resolved, planned);
  const Texts texts(s.text, resolved.architecture.vocabulary);
  const Manifest manifest = manifest_of(s, resolved.architecture, planned.options, texts, checkpoints);
  const std::int64_t steps = manifest.standing.schedule_steps;
  checkpoints.check(manifest);
  if (initial) check_tokenizer(*initial, texts.tokenizer.get());
  // Where results go must be known to take them before hours are spent on them.
  if (!s.export_file.empty()) AtomicFile probe(s.export_file);
  Log log = s.log.empty() ? Log() : Log(s.log, checkpoints.from() != nullptr);
  const ReportFacts facts = facts_of(resolved, planned);
  fmt::print("{}\n", plan_table(planned.plan, facts));

  Session session(build_training(resolved.architecture, planned.options), planned.plan, resolved.place, checkpoints.from());
  if (checkpoints.from()) {
    checkpoints.restore_into(session);
  } else {
    initialize(session.brain, session.program, static_cast<std::uint64_t>(s.seed));
    if (!s.init.empty()) initialize_from(session.brain, session.program, s.init);
  }
  if (checkpoints.from() && steps > 0 && checkpoints.standing().steps >= steps) {
    fmt::print("all {} steps are done: to go on in a new schedule use --init {}\n", steps, checkpoints.from()->path());
    export_to(s, session, texts);
    return 0;
  }
  checkpoints.start(session, manifest);
  Run run(s, session, texts, steps, checkpoints, std::move(log));
  run.log_start(facts);
  fmt::print("training on {} tokens of {}, seed {}, on {}\n", with_commas(static_cast<Bytes>(texts.train.size())),
             fmt::join(s.text.data, ", "), s.seed, session.program.device_name());
  std::fflush(stdout);
  const int status = run.train();
  if (checkpoints.on() && !checkpoints.newest().empty()) fmt::print("the newest checkpoint is {}\n", checkpoints.newest());
  export_to(s, session, texts);
  return status;
}

}  // namespace

void add_train(CLI::App& app, int& status) {
  auto s = std::make_shared<TrainSettings>();
  add_settings(app, s->common);
  add_text_settings(app, s->text);
  add_checkpoint_settings(app, s->checkpoints);
  app.add_option("--valid", s->text.valid, "held-out text, .txt or .bin");
  app.add_option("--steps", s->steps, "length of the run in steps")->check(CLI::PositiveNumber);
  app.add_option("--epochs", s->epochs, "length of the run in passes over the text (default 1)")->check(CLI::PositiveNumber);
  app.add_option("--minutes", s->minutes, "length of the run in minutes, estimated from the first 50 steps")
      ->check(CLI::PositiveNumber);
  app.add_option("--lr", s->rates.learning_rate, "learning rate of synapses, biases, gains and time constants")
      ->capture_default_str();
  app.add_option("--embedding-lr", s->rates.embedding, "learning rate of the embedding")->capture_default_str();
  app.add_option("--decoder-lr", s->rates.decoder, "learning rate of the decoder")->capture_default_str();
  app.add_option("--warmup", s->rates.warmup, "steps until the rates are at their height")->capture_default_str();
  app.add_option("--seed", s->seed, "of first weights, wiring and the order of the text")->capture_default_str();
  app.add_option("--init", s->init, "first weights from a safetensors file, or from a checkpoint of another run");
  app.add_option("--export", s->export_file, "write the trained weights to a safetensors file");
  app.add_option("--eval-every", s->eval_every, "steps between evaluations on the held-out text (default: at the end alone)");
  app.add_option("--log", s->log, "write one JSON object a line for every step; --resume appends");
  app.add_option("--progress", s->progress, "auto, plain or none")->capture_default_str();
  app.add_flag("--snapshot", s->common.snapshot,
               "save from a copy of what is saved, so that training waits for the copy alone; on a CPU the budget holds the copy");
  app.add_flag(
      "--separate-buffers", s->common.separate_buffers,
      "for compute-sanitizer, on a GPU: each buffer in a cudaMalloc of its own (what that rounds up is overhead), nothing shared, "
      "transients not cleared; no checkpoints");
  app.callback([s, &status] { status = train(*s); });
}

}  // namespace neurogen
