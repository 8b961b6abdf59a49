#include "engine/api/state.h"

#include <fmt/format.h>

#include <algorithm>

#include "arena/error.h"
#include "engine/api/check_ids.h"
#include "engine/run/restore.h"

namespace neurogen {

void check_row(std::int64_t id, std::int64_t vocabulary) {
  if (id < 0 || id >= vocabulary) throw Error({Field("id"), fmt::format(" is {}: use 0 to {}", id, vocabulary - 1)});
}

void check_size(const char* field, std::size_t size, std::int64_t needed, std::string_view shape) {
  if (static_cast<std::int64_t>(size) != needed)
    throw Error({Field(field), fmt::format(" has {} elements: it needs {}, {}", size, needed, shape)});
}

MemoryPlan memory_plan(const Resolved& r, const Fit& fit) {
  const ReportFacts facts = facts_of(r, fit);
  const Plan& p = fit.plan;
  const StepOptions& o = fit.model.options;
  MemoryPlan plan;
  plan.device_arena = p.device.bytes, plan.host_arena = p.host.bytes, plan.overhead = p.overhead;
  plan.total = p.total(), plan.budget = p.budget, plan.minimum = fit.minimum, plan.fits = p.fits();
  plan.batch = o.batch, plan.window = o.window, plan.accumulate = o.accumulate;
  plan.table = plan_table(p, facts);
  plan.json = plan_json(p, facts);
  if (!plan.fits) plan.refusal = refusal(fit, r.budget, plain);
  return plan;
}

Engine::State::State(std::unique_ptr<AllocationAccount> account, const EngineOptions& o, const Resolved& r, Fit planned)
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
      readout(program, longest_row()),
      device(program.device_name()) {}

std::int64_t Engine::State::longest_row() const {
  std::int64_t longest = model.options.vocabulary_tile + 8;  // a row of a tile's logits is padded
  for (const Probe& probe : model.probes) longest = std::max(longest, kRowsAtOnce * width(probe));
  for (const Parameter& p : model.parameters) longest = std::max(longest, program.view(p.value).row_elements());
  return longest;
}

void Engine::State::prepare_to_save() {
  Manifest m;
  if (tokenizer) m.tokenizer = tokenizer->hash(), m.tokenizer_model = tokenizer->model();
  m.architecture = model.architecture->json();
  m.options = saved_options(model.options);
  m.rates = complete(options.rates, model);
  m.seed = static_cast<std::uint64_t>(options.seed);
  saver.emplace(session, m, file);
}

void Engine::State::check_batches(std::span<const std::int32_t> input_ids, std::span<const std::int32_t> target_ids,
                                  std::int64_t count) const {
  const std::int64_t tokens = count * model.options.tokens(), pieces = model.architecture->vocabulary();
  const char* const shape = count > 1 ? "accumulate x batch x window" : "batch x window";
  check_size("input_ids", input_ids.size(), tokens, shape);
  check_size("target_ids", target_ids.size(), tokens, shape);
  check_ids("input_ids", input_ids, 0, pieces);
  check_ids("target_ids", target_ids, -1, pieces);
  if (std::count(target_ids.begin(), target_ids.end(), -1) == tokens)
    throw Error({Field("target_ids"), " are all -1: give at least one target"});
}

void Engine::State::put_batch(std::span<const std::int32_t> input_ids, std::span<const std::int32_t> target_ids) {
  std::int32_t* const batch = program.view(model.ports.batch).as<std::int32_t>();
  std::copy(input_ids.begin(), input_ids.end(), batch);
  std::copy(target_ids.begin(), target_ids.end(), batch + model.options.tokens());
  batch_there = true;
}

void Engine::State::take_batch(std::span<const std::int32_t> input_ids, std::span<const std::int32_t> target_ids) {
  check_batches(input_ids, target_ids, 1);
  put_batch(input_ids, target_ids);
}

void Engine::State::load(const Checkpoint& from) {
  check_architecture(from, *model.architecture);
  if (const std::int64_t saved = from.manifest().options.document_end;
      !options.document_end && saved != model.options.document_end) {
    throw Error({from.path() + " was trained with ", Field("document_end"),
                 fmt::format(" {}, here it is {}: name the one to continue with", saved, model.options.document_end)});
  }
  go_on(session, from, true, false);
  step.go_on_from(from.manifest().standing.steps);
  schedule = options.steps > 0 ? options.steps : from.manifest().standing.schedule_steps;
  batch_there = false;
}

}  // namespace neurogen
