#include "tools/neurogen-engine/checkpoints.h"

#include <fmt/format.h>
#include <unistd.h>
#include <xxhash.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "arena/error.h"
#include "engine/files/file_io.h"
#include "engine/files/json.h"
#include "engine/run/restore.h"
#include "engine/run/weights.h"
#include "tools/common/clock.h"
#include "tools/common/output.h"

namespace neurogen {
namespace {

constexpr std::size_t kLongestDirectory = 600;  // bytes of its name, which must fit a line of the log with every byte escaped
constexpr std::int64_t kMostKept = 1'000'000;

void check_settings(const CheckpointSettings& s, bool evaluates) {
  if (s.directory.empty()) {
    if (s.resume) throw Error("--resume needs the directory of the checkpoints: name it with --checkpoint-dir DIR");
    if (s.keep_best) throw Error("--keep-best keeps checkpoints: name their directory with --checkpoint-dir DIR");
    return;
  }
  if (s.directory.size() > kLongestDirectory) {
    throw Error(fmt::format("--checkpoint-dir has a name of {} bytes: use at most {}", s.directory.size(), kLongestDirectory));
  }
  if (s.save_every < 0)
    throw Error(fmt::format("--save-every is {}: use a number of steps, or 0 to save only at the end", s.save_every));
  if (s.keep < 1 || s.keep > kMostKept) throw Error(fmt::format("--keep is {}: use 1 to {}", s.keep, kMostKept));
  if (s.keep_best && !evaluates) throw Error("--keep-best compares losses on a held-out text: name one with --valid");
}

std::string adapters_of(const SavedAdapters& a) {
  if (a.rank == 0) return "";
  return fmt::format(" --lora {} --lora-alpha {} --lora-targets {} beside a base of XXH3 {:016x}", a.rank, a.alpha, a.targets,
                     a.base_hash);
}

}  // namespace

std::vector<Fact> facts_of(const Manifest& m) {
  const auto is = [](const char* name, const auto& value) { return Fact{name, fmt::format("{}", value)}; };
  const std::string weights = fmt::format("{}", fmt::join(m.text.weights, ":"));
  return {
      is("--data weights", weights.empty() ? "none" : weights),
      is("the tokenizer", m.tokenizer ? fmt::format("of XXH3 {:016x}", m.tokenizer) : "none"),
      is(m.options.accumulate > 1 ? "--batch times --accumulate of" : "--batch", m.options.batch * m.options.accumulate),
      is("--seq", m.options.window),
      is("--document-end", m.options.document_end),
      is("--decoder-tile", m.options.vocabulary_tile),
      is("--optimizer", fmt::format("{}{}{}{}", name_of(static_cast<Optimizer>(m.options.optimizer)),
                                    m.options.narrow_moments ? " --moments 8bit" : "",
                                    m.options.early_updates ? " --updates backward" : "", adapters_of(m.adapters))),
      is("--seed", m.seed),
      is("--lr", m.rates.learning_rate.value()),
      is("--synapse-lr", m.rates.synapse_rate.value()),
      is("--table-lr", m.rates.table_rate),
      is("--decoder-lr", m.rates.decoder_rate),
      is("--warmup", m.rates.warmup),
      is("a decay of", m.options.synapse_decay),
      is("a gradient's limit of", m.options.clip),
      is("a number of steps", m.standing.schedule_steps ? std::to_string(m.standing.schedule_steps) : "unknown"),
  };
}

std::string identity_of(Manifest run) {
  run.options.batch *= std::exchange(run.options.accumulate, 1);  // a step may be split otherwise when the run is resumed
  auto architecture = nlohmann::ordered_json::parse(run.architecture);
  architecture.erase("name");
  std::string all = fmt::format("{} {} {}", architecture.dump(), run.text.tokens, run.text.hash);
  for (const Fact& fact : facts_of(run)) all += fmt::format("\n{} {}", fact.name, fact.value);
  return fmt::format("{:016x}", XXH3_64bits(all.data(), all.size()));
}

void add_checkpoint_settings(CLI::App& app, CheckpointSettings& s) {
  CLI::Option* const directory = app.add_option("--checkpoint-dir", s.directory,
                                                "save checkpoints here: regularly, at the end, and at SIGINT, SIGTERM or SIGHUP");
  app.add_option("--save-every", s.save_every, "steps between checkpoints; 0: only at the end")
      ->capture_default_str()
      ->needs(directory);
  app.add_option("--keep", s.keep, "number of newest checkpoints to keep")->capture_default_str()->needs(directory);
  app.add_flag("--keep-best", s.keep_best, "evaluate before saving, and also keep the checkpoint with the lowest held-out loss");
  CLI::Option* const resume =
      app.add_flag("--resume", s.resume, "resume from the newest checkpoint, or start from scratch if there is none");
  app.add_flag("--convert", s.convert, "let --resume round saved numbers that this run stores in a narrower type")->needs(resume);
  app.add_flag("--no-verify", s.no_verify, "let --resume skip the checksums, which take reading the whole file")->needs(resume);
}

Checkpoints::Checkpoints(const CheckpointSettings& settings, bool evaluates) : settings_(settings) {
  check_settings(settings_, evaluates);
  if (settings_.directory.empty()) return;
  directory_.emplace(settings_.directory, settings_.keep, settings_.keep_best);
  path_json_ = json_text(settings_.directory + (settings_.directory.ends_with('/') ? "" : "/"));
  path_json_.pop_back();  // drops the closing quote: a file name follows
  const auto& entries = directory_->entries();
  if (entries.empty()) {
    if (settings_.resume) print_out("{} holds no checkpoint yet: starting from scratch\n", settings_.directory);
    return;
  }
  if (!settings_.resume) {
    throw Error(fmt::format("{} holds checkpoints up to step {}: add --resume to continue there, or name another --checkpoint-dir",
                            settings_.directory, entries.back().step));
  }
  from_.emplace(newest());
  if (from_->manifest().standing.steps != entries.back().step) {
    throw Error(fmt::format("{} holds step {}: restore its original name", from_->path(), from_->manifest().standing.steps));
  }
}

Checkpoints::Checkpoints(const CheckpointSettings& settings, const std::string& from) : settings_(settings) {
  if (!from.empty()) from_.emplace(from);
}

std::string Checkpoints::newest() const {
  const auto& entries = directory_->entries();
  return entries.empty() ? "" : directory_->file(entries.back().step);
}

void Checkpoints::adopt(Settings& settings) const {
  if (!from_) return;
  adopt_checkpoint(settings, *from_);
  const SavedOptions& saved = from_->manifest().options;
  if (settings.batch == 0 && settings.accumulate > 0)
    settings.batch = std::max<std::int64_t>(1, saved.batch * saved.accumulate / (settings.accumulate * settings.ranks));
}

void Checkpoints::check(const Manifest& asked, const Model& model) const {
  if (!from_) return;
  const Manifest& saved = from_->manifest();
  const std::string& path = from_->path();
  check_architecture(*from_, *model.architecture);
  const std::vector<Fact> then = facts_of(saved), now = facts_of(asked);
  const auto same = [&](std::size_t i) {
    if (then[i].value == now[i].value) return;
    throw Error(
        fmt::format("{} was trained with {} {}, now it is {}: --resume continues the same run; to start a new schedule "
                    "from these weights use --init {}",
                    path, then[i].name, then[i].value, now[i].value, path));
  };
  same(0);
  if (saved.text != asked.text) {
    throw Error(
        fmt::format("{} was trained on a text of {} tokens (XXH3 {:016x}), --data has {} (XXH3 {:016x}): --resume continues "
                    "the same text; to train on another in a new schedule use --init {}",
                    path, saved.text.tokens, saved.text.hash, asked.text.tokens, asked.text.hash, path));
  }
  for (std::size_t i = 1; i < then.size(); ++i) same(i);

  const auto note = [&](const char* what, const std::string& before, const std::string& after) {
    if (before == after) return;
    print_out("{}: {} until now, {} from here on, so that losses differ in their last digits\n", what, before, after);
  };
  const auto type = [](DType t) { return std::string(name_of(t)); };
  note("type of products", type(saved.options.compute), type(asked.options.compute));
  const auto product = [&](const Manifest& m) { return m.options.int8_logits ? std::string("int8") : type(m.options.compute); };
  note("type of the logits' product", product(saved), product(asked));
  const auto weights = [](const Manifest& m) { return std::string(m.options.narrow_weights ? "16bit" : "fp32"); };
  note("type of the stored weights", weights(saved), weights(asked));
  note("type of the stored decoder", type(saved.options.decoder_storage), type(asked.options.decoder_storage));
  const auto logits = [](const Manifest& m) { return std::string(m.options.keep_logits ? "kept" : "computed twice"); };
  if (asked.options.compute != model.options.real()) note("logits", logits(saved), logits(asked));
}

void Checkpoints::restore_into(Session& session) const {
  const Clock::time_point begin = Clock::now();
  go_on(session, *from_, !settings_.no_verify, settings_.convert);
  print_out("resuming from {}: {} steps are done ({} in {:.3f} s)\n", from_->path(), from_->manifest().standing.steps,
            settings_.no_verify ? "loaded" : "verified and loaded", seconds_since(begin));
}

void Checkpoints::start(const Session& session, const Manifest& manifest) {
  if (on()) saver_.emplace(session, manifest, *directory_);
}

bool Checkpoints::save(const Standing& standing, Log& log, bool last) {
  const Clock::time_point begin = Clock::now();
  report(log, true);
  const auto& entries = directory_->entries();
  if (!entries.empty() && entries.back().step == standing.steps) return true;
  log.sync();  // a power cut must not leave a checkpoint without the log lines before it
  saver_->begin(standing);
  pause_ms_ = 1e3 * seconds_since(begin);
  step_ = standing.steps;
  last_ = last;
  return report(log, last);
}

bool Checkpoints::report(Log& log, bool wait) {
  const std::optional<Saved> result = saver_ ? saver_->result(wait) : std::nullopt;
  if (!result) return true;
  if (*result == Saved::not_finite) {
    throw Error(fmt::format("the parameters after step {} are not finite: train with a lower --lr", step_), Error::kRunTime);
  }
  char line[4096];
  if (*result == Saved::no) {
    const auto end = fmt::format_to_n(line, sizeof line, "neurogen-engine: {}: older checkpoints stay{}\n", saver_->error(),
                                      last_ ? "" : ", training goes on");
    write_all(STDERR_FILENO, line, std::min(end.size, sizeof line));
  }
  const auto end =
      fmt::format_to_n(line, sizeof line,
                       "{{\"event\":\"checkpoint{}\",\"step\":{},\"path\":{}step-{:09}.ngck\",\"ms\":{:.3f},\"pause_ms\":{:.3f}}}",
                       *result == Saved::no ? "_failed" : "", step_, path_json_, step_, saver_->milliseconds(), pause_ms_);
  log.line({line, end.size});
  return *result == Saved::yes;
}

}  // namespace neurogen
