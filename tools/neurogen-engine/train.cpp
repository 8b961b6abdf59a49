// neurogen-engine train: plans, takes the memory, trains, and prints a summary.
#include <fmt/format.h>

#include <cctype>
#include <cmath>
#include <filesystem>

#include "arena/error.h"
#include "arena/report.h"
#include "engine/files/atomic_file.h"
#include "engine/model/initialize.h"
#include "engine/ranks/rendezvous.h"
#include "engine/run/base.h"
#include "engine/run/session.h"
#include "tools/common/decimal.h"
#include "tools/common/output.h"
#include "tools/common/outputs.h"
#include "tools/common/signals.h"
#include "tools/neurogen-engine/commands.h"
#include "tools/neurogen-engine/follower.h"
#include "tools/neurogen-engine/trained.h"
#include "tools/neurogen-engine/training_run.h"

namespace neurogen {
namespace {

void check_settings(TrainSettings& s) {
  if ((s.steps > 0) + (s.epochs > 0) + (s.minutes > 0) > 1)
    throw Error("--steps, --epochs and --minutes exclude each other: give one");
  if (!(s.epochs >= 0 && s.epochs <= 1e9)) throw Error(fmt::format("--epochs is {}: use a number above 0, at most 1e9", s.epochs));
  if (!(s.minutes >= 0 && s.minutes <= 1e9))
    throw Error(fmt::format("--minutes is {}: use a number above 0, at most 1e9", s.minutes));
  if (s.warmup) s.rates.warmup = *s.warmup;
  check_rates(s.rates);
  check_export_name("--export", s.export_file);
}

void keep_inputs(const TrainSettings& s) {
  std::vector<NamedFile> inputs = named("", s.text.data);
  for (const std::string& file : s.text.valid) inputs.push_back({"", file});
  inputs.insert(inputs.end(), {{"", s.text.tokenizer}, {"", s.init}, {"", s.common.architecture}});
  check_outputs(inputs, {{"--log", s.log}, {"--export", s.export_file}}, s.checkpoints.directory);
}

// Steps of the whole run, 0: not known yet.
std::int64_t schedule_of(const TrainSettings& s, const Standing& before, std::int64_t steps_per_epoch) {
  if (s.steps > 0) return s.steps;
  if (s.minutes > 0) return before.schedule_steps;  // keeps the estimate
  return std::max<std::int64_t>(1, std::llround((s.epochs > 0 ? s.epochs : 1) * static_cast<double>(steps_per_epoch)));
}

// The manifest that this run would save before its first step. `before`: where the run that it resumes stood.
Manifest manifest_of(const TrainSettings& s, const Model& model, const Texts& texts, const Standing& before) {
  const StepOptions& options = model.options;
  Manifest m;
  m.architecture = model.architecture->json();
  m.options = saved_options(options);
  m.adapters = saved_adapters(options, s.init);
  m.rates = complete(s.rates, model);
  m.seed = static_cast<std::uint64_t>(s.seed);
  m.steps_per_epoch = Draws(texts.train, options.window, options.step_sequences(), m.seed).steps_per_epoch();
  m.standing.schedule_steps = schedule_of(s, before, m.steps_per_epoch);
  m.text = {texts.train.size(), texts.train.hash(), texts.train.weights()};
  if (texts.tokenizer) m.tokenizer = texts.tokenizer->hash(), m.tokenizer_model = texts.tokenizer->model();
  return m;
}

// The schedule is not part of it if the time limits the run: its length is found on the way.
std::string identity_of(const TrainSettings& s, Manifest run) {
  if (s.minutes > 0) run.standing.schedule_steps = 0;
  return neurogen::identity_of(run);
}

// Rates that were not asked for: those of the run that is resumed, or such that they do no harm to weights that have learned.
void choose_rates(TrainSettings& s, const Checkpoint* from, bool pretrained) {
  constexpr double kPretrained = 5e-5;
  constexpr std::int64_t kWarmup = 10;
  if (from) {
    const Rates& before = from->manifest().rates;
    if (!s.rates.learning_rate) s.rates.learning_rate = before.learning_rate;
    if (!s.warmup) s.rates.warmup = before.warmup;
    return;
  }
  const bool adapters = s.common.lora != 0;
  if (pretrained && !adapters && !s.rates.learning_rate) s.rates.learning_rate = kPretrained;
  if ((pretrained || adapters) && !s.warmup) s.rates.warmup = kWarmup;
}

// The first free name for the exported model if no --export is given, so that no run loses its result.
std::string default_export(const std::string& architecture) {
  std::string name = "neurogen-";
  for (const char c : architecture) name += std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' ? c : '_';
  std::string file = name + ".safetensors";
  for (int i = 2; std::filesystem::exists(std::filesystem::symlink_status(file)); ++i)
    file = fmt::format("{}-{}.safetensors", name, i);
  return file;
}

Bytes parameters_of(const Session& session) {
  std::int64_t count = 0;
  for (const Parameter& p : session.model.parameters)
    if (p.rule != UpdateRule::none) count += session.program.view(p.value).elements();
  return static_cast<Bytes>(count);
}

// `by_default`: under a name that nobody chose, so that another run may take it first.
void export_to(TrainSettings& s, const Session& session, const Texts& texts, bool by_default) {
  if (s.export_file.empty()) return;
  const Existing existing = by_default ? Existing::kept : Existing::replaced;
  while (!export_parameters(session.model, session.program, s.export_file, texts.tokenizer.get(), existing))
    s.export_file = default_export(session.model.architecture->name());
  print_out("the model is in {}: try neurogen-engine {} --init {}\n", s.export_file, texts.tokenizer ? "chat" : "eval --data FILE",
            s.export_file);
}

// All ranks must train the same model on the same text in the same way, and by the same plan.
void agree(Ranks& ranks, const Manifest& manifest, const Plan& plan, const ReportFacts& facts) {
  ranks.agree("version", NEUROGEN_VERSION);
  ranks.agree("the architecture", manifest.architecture);
  ranks.agree("a text of XXH3", fmt::format("{:016x} ({} tokens)", manifest.text.hash, manifest.text.tokens));
  for (const Fact& fact : facts_of(manifest)) ranks.agree(fact.name, fact.value);
  ranks.agree("the plan", fmt::format("of {} ({})", facts.title, plan_json(plan, facts)));
}

// The work of one rank, of one or of several.
int train(TrainSettings s, Ranks& ranks) {
  if (s.common.snapshot && s.checkpoints.directory.empty()) {
    throw Error("--snapshot needs checkpoints to save: name their directory with --checkpoint-dir DIR");
  }
  if (s.common.separate_buffers && !s.checkpoints.directory.empty()) {
    throw Error("--separate-buffers cannot save checkpoints: leave out --checkpoint-dir");
  }
  find_demonstration_text(s.text);
  take_weights(s.text);
  if (s.eval_every > 0 && s.text.valid.empty()) throw Error("--eval-every needs a held-out text: name one with --valid");
  if (ranks.leads()) keep_inputs(s);
  std::optional<Checkpoints> opened;
  if (ranks.leads()) opened.emplace(s.checkpoints, !s.text.valid.empty());
  const std::string from = ranks.from_rank_zero(opened && opened->from() ? opened->from()->path() : "");
  if (!ranks.leads()) opened.emplace(s.checkpoints, from);
  s.log = ranks.from_rank_zero(s.log);  // with a log, all ranks time operations
  Checkpoints& checkpoints = *opened;
  checkpoints.adopt(s.common);
  if (checkpoints.from() && s.init.empty()) s.init = checkpoints.from()->manifest().adapters.base;
  if (s.common.lora != 0 && s.init.empty()) throw Error("--lora needs the weights that it adapts: name them with --init");
  std::optional<WeightFile> init;
  if (!checkpoints.from() && !s.init.empty()) init.emplace(s.init).adopt(s.common);
  choose_rates(s, checkpoints.from(), init && init->pretrained());
  Resolved resolved = resolve(s.common, false);
  ranks.connect(resolved);
  if (init) init->check(*resolved.architecture);
  Fit planned = fit(resolved);
  if (!planned.fits() && !ranks.leads()) throw Error(misfit(planned));
  if (!planned.fits()) return refuse("neurogen-engine", resolved, planned);
  std::unique_ptr<Tokenizer> carried;
  if (checkpoints.from()) carried = carried_tokenizer(*checkpoints.from());
  else if (init && s.text.tokenizer.empty()) carried = init->tokenizer();
  const Texts texts(s.text, resolved.architecture->vocabulary(), std::move(carried));
  const Manifest manifest = manifest_of(s, planned.model, texts, checkpoints.standing());
  const std::int64_t steps = manifest.standing.schedule_steps;
  checkpoints.check(manifest, planned.model);
  if (init && init->checkpoint()) init->check_tokenizer(texts.tokenizer.get());
  const ReportFacts facts = facts_of(resolved, planned);
  agree(ranks, manifest, planned.plan, facts);
  const LoggedRun logged{identity_of(s, manifest), checkpoints.from() != nullptr};
  Log log;
  const bool exported_by_default = s.export_file.empty() && !checkpoints.on();
  if (ranks.leads()) {
    // Checks that the output can be written before hours are spent on it.
    if (exported_by_default) s.export_file = default_export(resolved.architecture->name());
    if (!s.export_file.empty()) AtomicFile probe(s.export_file);
    if (!s.log.empty()) log = Log(s.log, logged);
    if (!log.kept_as().empty()) print_out("{} was the log of another run: it is kept as {}\n", s.log, log.kept_as());
  }
  print_out("{}\n", plan_summary(planned.plan, facts));

  Session session(std::move(planned), resolved.place, checkpoints.from());
  ranks.agree("the device", session.program.device_name());
  if (checkpoints.from()) {
    if (session.model.options.lora.rank > 0) load_base(session, manifest.adapters, s.init);
    checkpoints.restore_into(session);
  } else {
    initialize(session.model, session.program, static_cast<std::uint64_t>(s.seed));
    if (init) init->load(session.model, session.program);
    init.reset();
  }
  const bool done = checkpoints.from() && steps > 0 && checkpoints.standing().steps >= steps;
  if (!ranks.leads()) {
    if (!done) follow(s, session, texts, checkpoints.standing().steps, ranks);
    return 0;
  }
  if (done) {
    print_out("all {} steps are done: to train further, start a new schedule with --init {}\n", steps, checkpoints.from()->path());
    export_to(s, session, texts, exported_by_default);
    return 0;
  }
  checkpoints.start(session, manifest);
  TrainingRun run(s, session, texts, steps, checkpoints, ranks, std::move(log));
  run.log_start(facts, logged.identity);
  print_out("training {} parameters on {} tokens of {}, seed {}, on {}\n", with_commas(parameters_of(session)),
            with_commas(static_cast<Bytes>(texts.train.size())), fmt::join(s.text.data, ", "), s.seed,
            session.program.device_name());
  flush_out();
  const int status = run.train();
  if (checkpoints.on() && !checkpoints.newest().empty()) print_out("the newest checkpoint is {}\n", checkpoints.newest());
  export_to(s, session, texts, exported_by_default);
  return status;
}

int train(TrainSettings s) {
  outlive_readers();
  check_settings(s);
  try {
    Ranks ranks(s.ranks, !s.checkpoints.directory.empty(), s.common);
    return ranks.run([&] { return train(s, ranks); });
  } catch (const Dismissed& dismissed) {
    return dismissed.status;
  }
}

}  // namespace

void add_train(CLI::App& app, int& status) {
  auto s = std::make_shared<TrainSettings>();
  add_settings(app, s->common);
  add_accumulate(app, s->common);
  add_rank_settings(app, s->ranks);
  add_text_settings(app, s->text);
  add_checkpoint_settings(app, s->checkpoints);
  app.add_option(
      "--valid", s->text.valid,
      "held-out text, .txt or .bin; of further ones the loss is measured before the first step and at the end, to see what "
      "was forgotten");
  app.add_option("--steps", s->steps, "length of the run in steps")->check(above_zero());
  app.add_option("--epochs", s->epochs, "length of the run in passes over the text (default: 1)")->check(above_zero());
  app.add_option("--minutes", s->minutes, "time limit, from the first step to the last save; the learning rates decay by then")
      ->check(above_zero());
  app.add_option("--lr", s->rates.learning_rate,
                 "learning rate of vectors, such as biases and gains; of everything with --optimizer adamw (default: 0.004; a "
                 "transformer's with adamw 0.001, of pretrained weights 0.00005)");
  app.add_option("--synapse-lr", s->rates.synapse_rate,
                 "learning rate of matrices by Muon, a brain's synapses (default: 0.01; a transformer's 0.02)");
  app.add_option("--table-lr", s->rates.table_rate, "learning rate of the embedding and its pair table")->capture_default_str();
  app.add_option("--decoder-lr", s->rates.decoder_rate, "learning rate of the decoder")->capture_default_str();
  app.add_option("--warmup", s->warmup,
                 "steps until the learning rates peak (default: 100; of pretrained weights and adapters 10)");
  app.add_option("--seed", s->seed, "seed of the initial weights, the wiring and the order of the text")->capture_default_str();
  app.add_option(
      "--init", s->init,
      "start from these weights: a safetensors file, a checkpoint of another run, or pretrained ones, a folder of transformers or "
      "a GGUF file");
  app.add_option("--export", s->export_file,
                 "write the trained weights and the tokenizer to this safetensors file (default: neurogen-ARCH.safetensors, "
                 "or no file with --checkpoint-dir)");
  app.add_option("--eval-every", s->eval_every,
                 "steps between evaluations on the held-out text; 0: only at the end (default: ten per run)")
      ->check(not_negative());
  app.add_option("--log", s->log,
                 "write a log, one JSON object per line; --resume appends to the run's own, any other log is kept as FILE.1");
  app.add_option("--progress", s->progress, "progress on standard error: a bar, plain lines or none; auto: a bar on a terminal")
      ->type_name("auto|plain|none")
      ->capture_default_str();
  app.add_flag("--snapshot", s->common.snapshot,
               "save from a copy, so that training waits only for the copy; on a CPU the copy counts against the budget");
  app.add_flag(
      "--separate-buffers", s->common.separate_buffers,
      "for compute-sanitizer on a GPU: give each buffer its own cudaMalloc (its rounding is overhead), share and clear nothing; no "
      "checkpoints");
  app.callback([s, &status] { status = train(*s); });
}

}  // namespace neurogen
