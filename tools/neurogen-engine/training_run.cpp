#include "tools/neurogen-engine/training_run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cfloat>
#include <climits>
#include <cmath>
#include <cstring>

#include "arena/error.h"
#include "engine/files/file_io.h"
#include "engine/files/json.h"
#include "kernels/loss_scale.h"
#include "tools/common/clock.h"
#include "tools/common/output.h"
#include "tools/common/signals.h"
#include "tools/neurogen-engine/overhead.h"

namespace neurogen {
namespace {

constexpr std::int64_t kEvaluatedTokens = 40 * 32 * 256;  // most held-out tokens of an evaluation
constexpr std::int64_t kEvaluations = 10;                 // evaluations in a run, by default
// By default an evaluation before the last predicts one token for this many that the run, or one rank of it, learns from, so that
// all of them cost about 3 % of the time.
constexpr std::int64_t kEvaluatedShare = 100;
// A sample runs the model on a batch for every token. By default all samples cost at most this share of the time.
constexpr double kSampleBatches = 32, kSampleShare = 0.05;
constexpr double kBeforeShare = 0.1;        // of the time of --minutes for the evaluation before the first step
constexpr double kBetweenShare = 0.01;      // at most this share for the batch of an evaluation between
constexpr double kForwardByTraining = 0.4;  // time of a token in evaluation over its time in training, before it is measured

}  // namespace

TrainingRun::TrainingRun(const TrainSettings& settings, Session& session, const Texts& texts, std::int64_t steps,
                         Checkpoints& checkpoints, Ranks& ranks, Log log)
    : settings_(settings),
      session_(session),
      texts_(texts),
      checkpoints_(checkpoints),
      ranks_(ranks),
      orders_(ranks, session),
      trainer_(session.model, session.program, texts.train, settings.rates, static_cast<std::uint64_t>(settings.seed),
               checkpoints.standing().steps),
      evaluator_(session.model, session.program),
      observer_(session, texts, !settings.log.empty()),
      log_(std::move(log)),
      progress_(settings.progress),
      length_(steps, settings.minutes, trainer_.step()),
      first_(trainer_.step()),
      evaluations_(evaluations_due(first_)),
      before_(texts.valid.size()),
      after_(texts.valid.size()) {}

void TrainingRun::log_start(const ReportFacts& facts, const std::string& identity) {
  std::string begin = "\"event\":\"start\"";
  if (checkpoints_.from()) {
    rewind_log(settings_.log, first_);
    begin = fmt::format("\"event\":\"resume\",\"step\":{}", first_);
  }
  const std::string several = ranks_.several() ? fmt::format(",\"ranks\":{},\"compare_every\":{},\"nccl_bytes\":{}", ranks_.size(),
                                                             ranks_.compare_every(), session_.nccl_bytes())
                                               : "";
  log_.line(fmt::format("{{{},\"run\":\"{}\",\"plan\":{},\"device\":{},\"arch\":{},\"seed\":{}{}}}", begin, identity,
                        plan_json(session_.arena.plan(), facts), json_text(session_.program.device_name()),
                        session_.model.architecture->json(), settings_.seed, several));
  if (log_.lost() > 0)
    throw Error(fmt::format("{}: cannot write the log: {}", log_.path(), std::strerror(log_.error())), Error::kRunTime);
  observer_.log_program(log_, first_);
}

int TrainingRun::train() {
  try {
    return run_to_the_end();
  } catch (...) {
    checkpoints_.report(log_, true);  // of a save still running
    throw;
  }
}

int TrainingRun::run_to_the_end() {
  catch_signals();
  overhead_ = checked_overhead(session_);
  orders_.compare(first_);
  sealed_ = heap_counters();
  const std::int64_t gpu_sealed = Block::gpu_requests();
  length_.start();
  if (!settings_.init.empty() && first_ == 0) evaluate_before();
  while (!length_.over(trainer_.step()) && !ranks_.stopped()) {
    const Clock::time_point step_begin = Clock::now();
    const std::int64_t waits = session_.program.synchronizations();
    const bool watched = evaluates_after(trainer_.step() + 1);
    if (watched) observer_.time_next_step();
    const std::int64_t steps = length_.steps() > 0 ? length_.steps() : INT64_MAX;
    const bool compared = orders_.compares_after(trainer_.step() + 1) || checkpoints_.due(trainer_.step() + 1);
    orders_.step({steps, watched && !settings_.log.empty(), compared});
    const StepResult result = trainer_.run_step(steps);
    const double seconds = seconds_since(step_begin);
    if (compared) orders_.compare(trainer_.step());
    orders_.stepped();
    length_.step_done(trainer_.step(), seconds, seconds_for_the_end());
    check_finite(result, trainer_.step());
    report(result, seconds,
           {allocations_since_the_seal(), Block::gpu_requests() - gpu_sealed, session_.program.synchronizations() - waits});
    checkpoints_.report(log_, false);
    complain_of_log();
    if (watched) observer_.log_times(log_, trainer_.step());
    if (length_.over(trainer_.step())) break;
    if (evaluates_after(trainer_.step())) evaluate(false);
    if (checkpoints_.due(trainer_.step())) save(false);
  }
  orders_.finish();
  orders_.compare(trainer_.step());
  overhead_ = std::max(overhead_, orders_.largest(measured_overhead(session_)));
  ranks_.release();
  if (!texts_.valid.empty() && !ranks_.stopped()) evaluate(true);
  if (!ranks_.stopped()) evaluate_others();
  const bool saved = !checkpoints_.on() || save(true);
  allocations_ = allocations_since_the_seal();
  progress_.finish();
  summarise();
  return !saved || log_.lost() > 0 ? 1 : ranks_.stopped() ? 128 + ranks_.stopped() : 0;
}

// Complains once and goes on: a run is worth more than its log.
void TrainingRun::complain_of_log() {
  if (log_.lost() == 0 || log_complained_) return;
  log_complained_ = true;
  char line[PATH_MAX + 256];
  const auto end = fmt::format_to_n(line, sizeof line, "neurogen-engine: {}: cannot write the log: {}: training goes on\n",
                                    log_.path(), strerrordesc_np(log_.error()));
  write_all(STDERR_FILENO, line, std::min(end.size, sizeof line));
}

// The number of default evaluations (kEvaluations, evenly over the run) due by the end of `step`.
std::int64_t TrainingRun::evaluations_due(std::int64_t step) const {
  return static_cast<std::int64_t>(length_.share(step) * static_cast<double>(kEvaluations));
}

bool TrainingRun::evaluates_after(std::int64_t step) const {
  if (length_.over(step)) return true;
  if (texts_.valid.empty() || settings_.eval_every == 0) return false;
  if (settings_.eval_every > 0) return step % settings_.eval_every == 0;
  // A large model's batch takes long: between the first and the last evaluation, time is for training.
  const bool affordable = settings_.minutes == 0 || evaluation_seconds_ <= kBetweenShare * settings_.minutes * 60;
  return affordable && evaluations_due(step) > evaluations_;
}

// Most held-out tokens of the last evaluation: under --minutes a quarter as many as the run trains on, which takes about a tenth of
// the time.
std::int64_t TrainingRun::most_evaluated() const {
  if (compared_ > 0) return compared_;
  const std::int64_t step = tokens_of_rank();
  const std::int64_t most = settings_.minutes > 0 ? std::max(length_.steps() / 4 * step, step) : kEvaluatedTokens;
  return std::min(most, kEvaluatedTokens);
}

std::int64_t TrainingRun::batches(std::int64_t tokens) const {
  const std::int64_t batch = session_.model.options.tokens();
  return (tokens + batch - 1) / batch;
}

// Time to reserve for evaluating and saving after the last step.
double TrainingRun::seconds_for_the_end() const {
  if (texts_.valid.empty()) return save_seconds_;
  const double batch = evaluation_seconds_ > 0 ? evaluation_seconds_
                                               : kForwardByTraining * length_.training_seconds() /
                                                     static_cast<double>(own_steps() * session_.model.options.accumulate);
  std::int64_t count = 0;
  for (const Tokens& text : texts_.valid) count += batches(std::min(most_evaluated(), text.size()));
  return save_seconds_ + batch * static_cast<double>(count);
}

// Evaluates first if --keep-best needs the loss.
bool TrainingRun::save(bool last) {
  const Clock::time_point begin = Clock::now();
  if (checkpoints_.wants_evaluation() && evaluated_ != trainer_.step() && !ranks_.stopped()) evaluate(true);
  Standing standing{trainer_.step(), length_.steps()};
  if (evaluated_ == trainer_.step()) standing.held_out_loss = valid_loss_;
  const bool saved = checkpoints_.save(standing, log_, last);
  save_seconds_ = seconds_since(begin);
  return saved;
}

TrainingRun::Allocations TrainingRun::allocations_since_the_seal() const {
  const HeapCounters now = heap_counters();
  return {now.allocations - sealed_.allocations, now.driver_allocations - sealed_.driver_allocations};
}

void TrainingRun::report(const StepResult& result, double seconds, Counts counts) {
  loss_ = result.loss;
  smooth_ = own_steps() == 1 ? result.loss : 0.95 * smooth_ + 0.05 * result.loss;
  char line[1024];
  const auto end = fmt::format_to_n(
      line, sizeof line,
      "{{\"event\":\"step\",\"step\":{},\"tokens\":{},\"loss\":{:.6f},\"lr\":{:.6g},\"grad_norm\":{:.6g},\"tokens_per_s\":{:.1f},"
      "\"device_ms\":{:.3f},\"host_allocations\":{},\"driver_allocations\":{},\"device_allocations\":{},\"synchronizations\":{}",
      trainer_.step(), tokens(), result.loss, result.rate, std::isfinite(result.grad_norm) ? result.grad_norm : 0,
      static_cast<double>(session_.model.options.step_tokens()) / seconds, result.milliseconds, counts.allocations.host,
      counts.allocations.driver, counts.device_allocations, counts.synchronizations);
  const auto rest = session_.model.loss_scale ? fmt::format_to_n(end.out, line + sizeof line - end.out,
                                                                 ",\"loss_scale\":{},\"skipped\":\"{}\"}}", result.loss_scale,
                                                                 result.overflow == 0                        ? "none"
                                                                 : (result.overflow & kDecoderOverflow) == 0 ? "trunk"
                                                                                                             : "trunk and decoder")
                                              : fmt::format_to_n(end.out, line + sizeof line - end.out, "}}");
  log_.line({line, static_cast<std::size_t>(rest.out - line)});
  char* text = fmt::format_to(line, "step {}", trainer_.step());
  if (length_.steps() > 0) text = fmt::format_to(text, "/{}", length_.steps());
  text = fmt::format_to(text, "  loss {:.4f}  {:.0f} tokens/s", smooth_, rate());
  progress_.show(length_.share(trainer_.step()), {line, static_cast<std::size_t>(text - line)},
                 length_.seconds_left(trainer_.step()));
}

// Of weights that have learned: how good they are, to see afterwards whether it helped.
void TrainingRun::evaluate_before() {
  if (texts_.valid.empty()) return;
  compared_ = kEvaluatedTokens;
  if (settings_.minutes > 0) {  // what one batch takes says how many there is time for
    const std::int64_t batch = session_.model.options.tokens();
    const Clock::time_point begin = Clock::now();
    evaluator_.run(texts_.valid.front(), batch);
    const double share = kBeforeShare * settings_.minutes * 60 / seconds_since(begin) / static_cast<double>(texts_.valid.size());
    compared_ = std::clamp(static_cast<std::int64_t>(std::min(share, 1e9)) * batch, batch, kEvaluatedTokens);
  }
  evaluate(true);
  evaluate_others();
  before_ = after_;
}

// Texts that the run should not forget: their losses before the first step and after the last.
void TrainingRun::evaluate_others() {
  for (std::size_t i = 1; i < texts_.valid.size(); ++i) {
    const Evaluation result = evaluator_.run(texts_.valid[i], most_evaluated());
    after_[i] = result.loss;
    char line[PATH_MAX + 512];
    const std::string& file = settings_.text.valid[i];
    const auto event = fmt::format_to_n(line, sizeof line,
                                        "{{\"event\":\"other_eval\",\"step\":{},\"text\":{},\"valid_loss\":{:.6f},\"tokens\":{}}}",
                                        trainer_.step(), i, result.loss, result.tokens);
    log_.line({line, event.size});
    const auto note = fmt::format_to_n(line, sizeof line, "step {}  loss {:.4f} on {} tokens of {}", trainer_.step(), result.loss,
                                       result.tokens, file);
    progress_.note({line, std::min(note.size, sizeof line)});
  }
}

// `whole`: on most_evaluated() tokens of the held-out text; otherwise, by default, on a smaller part that takes little time.
void TrainingRun::evaluate(bool whole) {
  const bool by_default = settings_.eval_every < 0;
  const StepOptions& options = session_.model.options;
  if (part_ == 0)
    part_ =
        batches(length_.steps() * tokens_of_rank() / kEvaluatedShare) * options.tokens();  // fixed, so that losses can be compared
  const Clock::time_point begin = Clock::now();
  const Evaluation result =
      evaluator_.run(texts_.valid.front(), whole || !by_default ? most_evaluated() : std::min(part_, most_evaluated()));
  evaluation_seconds_ = seconds_since(begin) / static_cast<double>(batches(result.tokens));
  after_[0] = valid_loss_ = result.loss;
  evaluated_ = trainer_.step();
  evaluations_ = evaluations_due(trainer_.step());
  if (!std::isfinite(valid_loss_)) {
    throw Error(fmt::format("the held-out loss after step {} is not finite: train with a lower --lr", trainer_.step()),
                Error::kRunTime);
  }
  char line[512];
  // JSON has no infinity.
  const auto event = fmt::format_to_n(
      line, sizeof line, "{{\"event\":\"eval\",\"step\":{},\"valid_loss\":{:.6f},\"perplexity\":{:.7g},\"tokens\":{}}}",
      trainer_.step(), valid_loss_, std::min(std::exp(valid_loss_), DBL_MAX), result.tokens);
  log_.line({line, event.size});
  observer_.log_activity(log_, trainer_.step());
  const auto note = fmt::format_to_n(line, sizeof line, "step {}  held-out loss {:.4f} on {} tokens", trainer_.step(), valid_loss_,
                                     result.tokens);
  progress_.note({line, note.size});
  if (by_default && !affords_sample()) return;
  ++samples_;
  progress_.note(observer_.sample(log_, trainer_.step()));
}

bool TrainingRun::affords_sample() const {
  const double cost = kSampleBatches * evaluation_seconds_;
  return cost * static_cast<double>(samples_ + 1) <= kSampleShare * length_.elapsed() && length_.has(cost);
}

void TrainingRun::summarise() {
  const Plan& plan = session_.arena.plan();
  const Bytes arenas = plan.device.bytes + plan.host.bytes;
  overhead_ = std::max(overhead_, measured_overhead(session_));
  log_.line(fmt::format(
      "{{\"event\":\"summary\",\"steps\":{},\"tokens\":{},\"tokens_per_s\":{:.1f},\"loss\":{:.6f},"
      "\"peak_device_bytes\":{},\"overhead_bytes\":{},\"budget_bytes\":{}}}",
      trainer_.step(), tokens(), rate(), loss_, std::max(plan.device.bytes, session_.program.gpu_bytes()), overhead_, plan.budget));
  print_out("{} {} steps{}, {} tokens in {:.1f} s ({:.0f} tokens/s); with evaluations and saves {:.1f} s; last loss {:.4f}\n",
            ranks_.stopped() ? "stopped after" : "trained", trainer_.step(),
            first_ > 0 ? fmt::format(" ({} of them earlier)", first_) : "", with_commas(static_cast<Bytes>(own_tokens())),
            length_.training_seconds(), rate(), length_.elapsed(), loss_);
  if (evaluated_ == trainer_.step())
    print_out("held-out loss {:.4f} nats per token, perplexity {:.1f}\n", valid_loss_, std::exp(valid_loss_));
  for (std::size_t i = 0; compared_ > 0 && i < before_.size() && evaluated_ == trainer_.step(); ++i)
    print_out("before the first step {:.4f}, after the last {:.4f} on {}\n", before_[i], after_[i], settings_.text.valid[i]);
  if (log_.lost() > 0) print_out("{} lacks {} lines: {}\n", log_.path(), log_.lost(), std::strerror(log_.error()));
  const std::string snapshot =
      plan.snapshot == Snapshot::none ? "" : fmt::format(", snapshot {}", with_commas(plan.snapshot_bytes()));
  if (ranks_.several()) print_out("{} ranks, equal bits; of each, at most: ", ranks_.size());
  print_out("memory: arenas {} bytes{}, outside them {} of {} set aside, budget {}; allocations since the seal: {}{}\n",
            with_commas(arenas), snapshot, with_commas(overhead_), with_commas(plan.overhead), with_commas(plan.budget),
            allocations_.host, allocations_.driver > 0 ? fmt::format(", and {} of the GPU's driver", allocations_.driver) : "");
}

}  // namespace neurogen
