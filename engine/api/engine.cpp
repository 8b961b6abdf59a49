#include "neurogen/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "arena/error.h"
#include "engine/api/answer.h"
#include "engine/api/check_ids.h"
#include "engine/api/state.h"
#include "engine/files/file_io.h"
#include "engine/model/initialize.h"
#include "engine/run/restore.h"

namespace neurogen {
namespace {

// What options ask for. `weights`: those that they name, which automatic settings are taken from.
Resolved resolve(const EngineOptions& options, std::optional<Weights>& weights, bool planning) {
  check_rates(options.rates);
  if (options.steps < 0)
    throw Error({Field("steps"), fmt::format(" is {}: use a number of steps, or 0 if it is unknown", options.steps)});
  Settings settings;
  static_cast<ModelSettings&>(settings) = options;
  if (!options.init.empty() && !options.checkpoint.empty())
    throw Error({Field("init"), " and ", Field("checkpoint"), " exclude each other: give one"});
  if (!options.init.empty() || !options.checkpoint.empty())
    weights.emplace(WeightSettings{options.init, options.checkpoint}, settings, "");
  if (const Checkpoint* from = weights ? weights->checkpoint() : nullptr; from && from->manifest().adapters.rank > 0)
    throw Error(from->path() + " holds adapters, which the library does not take: export them merged into their base");
  Resolved resolved = resolve(settings, planning);
  resolved.options.stream = true;
  return resolved;
}

}  // namespace

const char* version() { return NEUROGEN_VERSION; }

Result<std::uint64_t> parse_bytes(std::string_view text, std::string_view field) {
  return answer<std::uint64_t>([&] { return parse_bytes(text, Field(field)); });
}

Result<MemoryPlan> Engine::plan(const EngineOptions& options) {
  return answer<MemoryPlan>([&] {
    const CopiedFiles copied;
    std::optional<Weights> weights;
    const Resolved resolved = resolve(options, weights, true);
    return memory_plan(resolved, fit(resolved));
  });
}

Result<Engine> Engine::create(const EngineOptions& options) {
  return answer<Engine>([&] {
    const CopiedFiles copied;
    std::optional<Weights> weights;
    const Resolved resolved = resolve(options, weights, false);
    Fit planned = fit(resolved);
    if (!planned.fits()) {
      throw Error({misfit(planned) + ": use a ", Field("budget"), fmt::format(" of at least {}, or a smaller ", planned.minimum),
                   Field("batch"), ", ", Field("window"), " or ", Field("architecture")});
    }
    auto account = std::make_unique<AllocationAccount>(0);  // before the engine's threads start
    const Working working(account.get(), resolved.place);
    auto state = std::make_unique<State>(std::move(account), options, resolved, std::move(planned));
    state->schedule = options.steps;
    if (!options.checkpoint.empty()) {
      state->load(*weights->checkpoint());
    } else {
      initialize(state->model, state->program, static_cast<std::uint64_t>(options.seed));
      if (weights) weights->init().load(state->model, state->program);
    }
    if (weights) state->tokenizer = weights->take_tokenizer();
    state->prepare_to_save();
    Engine engine(std::move(state));
    *engine.state_->allocations = 0;
    return engine;
  });
}

Engine::Engine(std::unique_ptr<State> state) : state_(std::move(state)) {}
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&& other) noexcept {
  Engine taken(std::move(other));  // destroys the state that this one held
  std::swap(state_, taken.state_);
  return *this;
}
Engine::~Engine() {
  // Memory is returned to the GPU that it came from, even if another is current for this thread.
  if (state_)
    (void)answer<std::monostate>([&] {
      const Working working(nullptr, state_->place);
      state_.reset();
      return std::monostate{};
    });
}

const MemoryPlan& Engine::plan() const { return state_->plan; }
std::string_view Engine::device() const { return state_->device; }
std::int64_t Engine::vocabulary() const { return state_->model.architecture->vocabulary(); }
std::int64_t Engine::steps() const { return state_->step.done(); }
std::int64_t Engine::embedding_width() const { return state_->program.view(state_->embedding)[1]; }
std::uint64_t Engine::allocations_since_construction() const { return *state_->allocations; }

Result<TrainingStepReport> Engine::train_step_batch(std::span<const std::int32_t> input_ids,
                                                    std::span<const std::int32_t> target_ids) {
  return answer<TrainingStepReport>([&] {
    const Working working = state_->work();
    State& s = *state_;
    s.check_batches(input_ids, target_ids, s.model.options.accumulate);
    const auto tokens = static_cast<std::size_t>(s.model.options.tokens());
    const StepResult result = s.step.run(s.schedule > 0 ? s.schedule : INT64_MAX, [&](std::int64_t k) {
      const std::size_t begin = static_cast<std::size_t>(k) * tokens;
      s.put_batch(input_ids.subspan(begin, tokens), target_ids.subspan(begin, tokens));
    });
    check_finite(result, s.step.done());
    return TrainingStepReport{result.loss, result.grad_norm, result.rate, result.overflow != 0};
  });
}

Result<double> Engine::evaluate(std::span<const std::int32_t> ids) {
  return answer<double>([&] {
    const Working working = state_->work();
    if (ids.size() < 2)
      throw Error({Field("ids"), fmt::format(" has {} elements: give at least two tokens to evaluate", ids.size())});
    check_ids("ids", ids, 0, vocabulary());
    state_->batch_there = true;
    return state_->evaluator.run(ids).loss;
  });
}

Status Engine::save(std::string_view path) {
  return answer<std::monostate>([&] {
    const Working working = state_->work();
    State& s = *state_;
    s.file.use(path);
    const Saved saved = s.saver->save({s.step.done(), s.schedule});
    if (saved == Saved::no) throw Error(s.saver->error(), Error::kRunTime);
    if (saved == Saved::not_finite) {
      throw Error(
          {fmt::format("the parameters after step {} are not finite: train with a lower ", s.step.done()), Field("learning_rate")},
          Error::kRunTime);
    }
    return std::monostate{};
  });
}

Status Engine::load(std::string_view path) {
  return answer<std::monostate>([&] {
    const Working working = state_->work();
    const CopiedFiles copied;
    state_->load(Checkpoint(checkpoint_file(std::string(path))));
    return std::monostate{};
  });
}

}  // namespace neurogen
