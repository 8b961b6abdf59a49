#include "neurogen/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "arena/allocations.h"
#include "arena/error.h"
#include "engine/api/answer.h"
#include "engine/api/check_ids.h"
#include "engine/files/checkpoint_file.h"
#include "engine/files/file_io.h"
#include "engine/model/initialize.h"
#include "engine/run/batch.h"
#include "engine/run/choice.h"
#include "engine/run/evaluator.h"
#include "engine/run/process.h"
#include "engine/run/readout.h"
#include "engine/run/restore.h"
#include "engine/run/sampler.h"
#include "engine/run/saver.h"
#include "engine/run/stream.h"
#include "engine/run/training_step.h"
#include "engine/run/weights.h"
#include "kernels/base/openblas.h"

namespace neurogen {
namespace {

constexpr std::int64_t kRowsAtOnce = 64;  // rows of a module's outputs that are copied to the caller at once

Settings settings_of(const EngineOptions& options) {
  Settings settings;
  static_cast<ModelSettings&>(settings) = options;
  return settings;
}

void check_row(std::int64_t id, std::int64_t vocabulary) {
  if (id < 0 || id >= vocabulary) throw Error(fmt::format("id is {}: use 0 to {}", id, vocabulary - 1));
}

void check_size(const char* what, std::size_t size, std::int64_t needed, const char* shape) {
  if (static_cast<std::int64_t>(size) != needed)
    throw Error(fmt::format("{} has {} elements: it needs {}, {}", what, size, needed, shape));
}

// The place of a module among the probes. Throws Error that lists them.
std::size_t module_of(const Model& model, std::string_view name) {
  const auto found = std::find_if(model.probes.begin(), model.probes.end(), [&](const Probe& probe) { return probe.name == name; });
  if (found != model.probes.end()) return static_cast<std::size_t>(found - model.probes.begin());
  std::vector<std::string_view> names;
  for (const Probe& probe : model.probes) names.push_back(probe.name);
  throw Error(fmt::format("there is no module {}: use {}", name, fmt::join(names, ", ")));
}

MemoryPlan memory_plan(const Resolved& r, const Fit& fit) {
  const ReportFacts facts = facts_of(r, fit);
  const Plan& p = fit.plan;
  const StepOptions& o = fit.model.options;
  return {p.device.bytes, p.host.bytes, p.overhead,           p.total(),          p.budget, fit.minimum,
          o.batch,        o.window,     plan_table(p, facts), plan_json(p, facts)};
}

// State of the caller's thread while an engine works on it.
class Working {
 public:
  Working(AllocationAccount* account, [[maybe_unused]] const Place& place) : charge_(account) {
    if (!place.gpu) products_.emplace();
#ifdef NEUROGEN_CUDA
    if (place.gpu) gpu_.emplace(place.ordinal);
#endif
  }

 private:
  ChargeAllocations charge_;
  std::optional<SerialProducts> products_;
#ifdef NEUROGEN_CUDA
  std::optional<CurrentGpu> gpu_;
#endif
};

}  // namespace

struct Engine::State {
  State(std::unique_ptr<AllocationAccount> account, const EngineOptions& o, const Resolved& r, Fit planned)
      : allocations(std::move(account)),
        options(o),
        place(r.place),
        plan(memory_plan(r, planned)),
        session(std::move(planned), r.place),
        model(session.model),
        program(session.program),
        step(model, program, o.rates),
        evaluator(model, program),
        stream(model, program),
        memory(vocabulary(), model.options.real()),
        sampler(memory.memory(), {}),
        embedding(model.parameter("embedding.weight").value),
        readout(program, std::max(kRowsAtOnce * widest_module(), program.view(embedding)[1])),
        device(program.device_name()) {}

  std::size_t vocabulary() const { return static_cast<std::size_t>(model.architecture->vocabulary()); }
  std::int64_t width(const Probe& probe) const { return program.view(probe.output)[1]; }
  std::int64_t widest_module() const {
    std::int64_t widest = 1;
    for (const Probe& probe : model.probes) widest = std::max(widest, width(probe));
    return widest;
  }
  Working work() const { return Working(allocations.get(), place); }

  // Makes the manifest of this run's checkpoints, without a text. `tokenizer`: of the loaded weights, may be null.
  void prepare_to_save(const Tokenizer* tokenizer) {
    Manifest m;
    if (tokenizer) m.tokenizer = tokenizer->hash(), m.tokenizer_model = tokenizer->model();
    m.architecture = model.architecture->json();
    m.options = saved_options(model.options);
    m.rates = options.rates;
    m.seed = static_cast<std::uint64_t>(options.seed);
    saver.emplace(session, m, file);
  }

  // Resumes a run.
  void load(const Checkpoint& from) {
    check_architecture(from, *model.architecture);
    if (const std::int64_t saved = from.manifest().options.document_end;
        !options.document_end && saved != model.options.document_end) {
      throw Error(fmt::format("{} was trained with --document-end {}, here it is {}: name the one to continue with", from.path(),
                              saved, model.options.document_end));
    }
    go_on(session, from, true, false);
    step.go_on_from(from.manifest().standing.steps);
    schedule = options.steps > 0 ? options.steps : from.manifest().standing.schedule_steps;
    batch_there = false;
  }

  std::unique_ptr<AllocationAccount> allocations;  // since the end of create()
  const EngineOptions options;
  const Place place;
  const MemoryPlan plan;
  Session session;
  const Model& model;
  Program& program;
  TrainingStep step;
  Evaluator evaluator;
  Stream stream;
  SamplerVectors memory;
  Sampler sampler;
  TensorId embedding;
  mutable Readout readout;
  std::string device;
  CheckpointFile file;
  std::optional<Saver> saver;
  std::int64_t schedule = 0;  // steps of the whole run; 0: unknown
  bool batch_there = false;
};

Result<Engine> Engine::create(const EngineOptions& options) {
  return answer<Engine>([&] {
    const CopiedFiles copied;
    check_rates(options.rates);
    if (options.steps < 0) throw Error(fmt::format("steps is {}: use a number of steps, or 0 if it is unknown", options.steps));
    Settings settings = settings_of(options);
    std::optional<Weights> weights;
    if (!options.init.empty() && !options.checkpoint.empty()) throw Error("init and checkpoint exclude each other: give one");
    if (!options.init.empty() || !options.checkpoint.empty())
      weights.emplace(WeightSettings{options.init, options.checkpoint}, settings, "");
    const Resolved resolved = resolve(settings, false);
    Resolved speaking = resolved;
    speaking.options.stream = true;
    Fit planned = fit(speaking);
    if (!planned.fits()) {
      throw Error(
          fmt::format("{} does not fit into {} bytes: use a budget of at least {}, or a smaller batch, window or architecture",
                      describe(*resolved.architecture, planned.model.options), with_commas(planned.plan.budget), planned.minimum));
    }
    auto account = std::make_unique<AllocationAccount>(0);  // before the engine's threads start
    const Working working(account.get(), resolved.place);
    auto state = std::make_unique<State>(std::move(account), options, speaking, std::move(planned));
    state->schedule = options.steps;
    if (!options.checkpoint.empty()) {
      state->load(*weights->checkpoint());
    } else {
      initialize(state->model, state->program, static_cast<std::uint64_t>(options.seed));
      if (!options.init.empty()) initialize_from(state->model, state->program, options.init);
    }
    state->prepare_to_save(weights ? weights->tokenizer() : nullptr);
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

Result<double> Engine::train_step_batch(std::span<const std::int32_t> input_ids, std::span<const std::int32_t> target_ids) {
  return answer<double>([&] {
    const Working working = state_->work();
    State& s = *state_;
    const std::int64_t tokens = s.model.options.tokens();
    check_size("input_ids", input_ids.size(), tokens, "batch x window");
    check_size("target_ids", target_ids.size(), tokens, "batch x window");
    check_ids("input_ids", input_ids, 0, vocabulary());
    check_ids("target_ids", target_ids, -1, vocabulary());
    if (std::count(target_ids.begin(), target_ids.end(), -1) == tokens)
      throw Error("target_ids are all -1: give at least one target");
    std::int32_t* const batch = s.program.view(s.model.ports.batch).as<std::int32_t>();
    std::copy(input_ids.begin(), input_ids.end(), batch);
    std::copy(target_ids.begin(), target_ids.end(), batch + tokens);
    s.batch_there = true;
    const StepResult result = s.step.run(s.schedule > 0 ? s.schedule : INT64_MAX);
    check_finite(result, s.step.done());
    return result.loss;
  });
}

Result<double> Engine::evaluate(std::span<const std::int32_t> ids) {
  return answer<double>([&] {
    const Working working = state_->work();
    if (ids.size() < 2) throw Error(fmt::format("ids has {} elements: give at least two tokens to evaluate", ids.size()));
    check_ids("ids", ids, 0, vocabulary());
    state_->batch_there = true;
    return state_->evaluator.run(ids).loss;
  });
}

Result<std::size_t> Engine::generate(std::span<const std::int32_t> prompt, std::span<std::int32_t> out, const Sampling& sampling) {
  return answer<std::size_t>([&] {
    const Working working = state_->work();
    State& s = *state_;
    if (prompt.empty()) throw Error("the prompt has no tokens: give at least one");
    check_ids("prompt", prompt, 0, vocabulary());
    Sampling checked = sampling;
    for (const Choice& choice : choices(checked)) choice.check();
    s.stream.reset();
    s.sampler.forget();
    s.sampler.use(sampling);
    TensorView logits;
    const auto take_in = [&](std::int32_t token) {
      logits = s.stream.step(token);
      s.sampler.note(token);
    };
    for (const std::int32_t token : prompt) take_in(token);
    std::size_t made = 0;
    while (made < out.size()) {
      out[made++] = s.sampler.draw(logits);
      if (out[made - 1] == s.model.options.document_end) break;
      if (made < out.size()) take_in(out[made - 1]);
    }
    return made;
  });
}

Result<std::span<const float>> Engine::embedding_row(std::int64_t id) const {
  using Row = std::span<const float>;
  return answer<Row>([&] {
    if (state_->place.gpu)
      throw Error("the embedding is in GPU memory, which the host cannot read: copy the row with read_embedding_row");
    check_row(id, vocabulary());
    const TensorView row = state_->program.view(state_->embedding).rows(id, 1);
    return Row(row.as<const float>(), static_cast<std::size_t>(row.elements()));
  });
}

Status Engine::read_embedding_row(std::int64_t id, std::span<float> out) const {
  return answer<std::monostate>([&] {
    const Working working = state_->work();
    check_row(id, vocabulary());
    check_size("out", out.size(), embedding_width(), "the embedding's width");
    const auto row = state_->readout.rows(state_->embedding, id, 1);
    std::copy(row.begin(), row.end(), out.begin());
    return std::monostate{};
  });
}

std::vector<std::string_view> Engine::modules() const {
  std::vector<std::string_view> names;
  for (const Probe& probe : state_->model.probes) names.push_back(probe.name);
  return names;
}

Result<std::int64_t> Engine::outputs(std::string_view module) const {
  return answer<std::int64_t>([&] { return state_->width(state_->model.probes[module_of(state_->model, module)]); });
}

Status Engine::read_output(std::string_view module, std::span<float> out) {
  return answer<std::monostate>([&] {
    const Working working = state_->work();
    State& s = *state_;
    const Probe& probe = s.model.probes[module_of(s.model, module)];
    const std::int64_t rows = s.model.options.tokens(), width = s.width(probe);
    check_size("out", out.size(), rows * width, "batch x window x outputs");
    if (!s.batch_there) throw Error("there is no batch yet: train or evaluate first");
    s.program.run({s.model.programs.evaluate.begin, probe.end});
    for (std::int64_t row = 0; row < rows; row += kRowsAtOnce) {
      const auto values = s.readout.rows(probe.output, row, std::min(kRowsAtOnce, rows - row));
      std::copy(values.begin(), values.end(), out.begin() + row * width);
    }
    return std::monostate{};
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
      throw Error(fmt::format("the parameters after step {} are not finite: train with a lower --lr", s.step.done()),
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
