#include "tools/neurogen-engine/checkpoints.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cmath>

#include "arena/error.h"
#include "engine/files/file_io.h"
#include "engine/files/json.h"
#include "engine/run/restore.h"
#include "engine/run/weights.h"
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

}  // namespace

void add_checkpoint_settings(CLI::App& app, CheckpointSettings& s) {
  app.add_option("--checkpoint-dir", s.directory, "save checkpoints here: regularly, at the end, and at SIGINT, SIGTERM or SIGHUP");
  app.add_option("--save-every", s.save_every, "steps between checkpoints; 0: only at the end")->capture_default_str();
  app.add_option("--keep", s.keep, "number of newest checkpoints to keep")->capture_default_str();
  app.add_flag("--keep-best", s.keep_best, "evaluate before saving, and also keep the checkpoint with the lowest held-out loss");
  app.add_flag("--resume", s.resume, "resume from the newest checkpoint, or start from scratch if there is none");
  app.add_flag("--convert", s.convert, "let --resume round saved numbers that this run stores in a narrower type");
  app.add_flag("--no-verify", s.no_verify, "let --resume skip the checksums, which take reading the whole file");
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

std::string Checkpoints::newest() const {
  const auto& entries = directory_->entries();
  return entries.empty() ? "" : directory_->file(entries.back().step);
}

void Checkpoints::adopt(Settings& settings) const {
  if (!from_) return;
  adopt_checkpoint(settings, *from_);
  if (settings.batch == "auto") settings.batch = std::to_string(from_->manifest().options.batch);
}

void Checkpoints::check(const Manifest& asked, const Model& model) const {
  if (!from_) return;
  const Manifest& saved = from_->manifest();
  const std::string& path = from_->path();
  check_architecture(*from_, *model.architecture);
  const auto same = [&](const char* what, const auto& then, const auto& now) {
    if (then == now) return;
    throw Error(
        fmt::format("{} was trained with {} {}, now it is {}: --resume continues the same run; to start a new schedule "
                    "from these weights use --init {}",
                    path, what, then, now, path));
  };
  const auto weights = [](const Manifest& m) {
    return m.text.weights.empty() ? std::string("none") : fmt::format("{}", fmt::join(m.text.weights, ":"));
  };
  same("--data weights", weights(saved), weights(asked));
  if (saved.text != asked.text) {
    throw Error(
        fmt::format("{} was trained on a text of {} tokens (XXH3 {:016x}), --data has {} (XXH3 {:016x}): --resume continues "
                    "the same text; to train on another in a new schedule use --init {}",
                    path, saved.text.tokens, saved.text.hash, asked.text.tokens, asked.text.hash, path));
  }
  const auto tokenizer = [](std::uint64_t hash) { return hash ? fmt::format("of XXH3 {:016x}", hash) : std::string("none"); };
  same("the tokenizer", tokenizer(saved.tokenizer), tokenizer(asked.tokenizer));
  same("--batch", saved.options.batch, asked.options.batch);
  same("--seq", saved.options.window, asked.options.window);
  same("--document-end", saved.options.document_end, asked.options.document_end);
  same("--decoder-tile", saved.options.vocabulary_tile, asked.options.vocabulary_tile);
  same("--seed", saved.seed, asked.seed);
  same("--lr", saved.rates.learning_rate, asked.rates.learning_rate);
  same("--table-lr", saved.rates.table, asked.rates.table);
  same("--decoder-lr", saved.rates.decoder, asked.rates.decoder);
  same("--warmup", saved.rates.warmup, asked.rates.warmup);
  same("a decay of", saved.options.synapse_decay, asked.options.synapse_decay);
  same("a gradient's limit of", saved.options.clip, asked.options.clip);
  const auto steps = [](std::int64_t count) { return count ? std::to_string(count) : std::string("unknown"); };
  same("a number of steps", steps(saved.standing.schedule_steps), steps(asked.standing.schedule_steps));

  const auto note = [&](const char* what, const auto& then, const auto& now) {
    if (then != now) print_out("{}: {} until now, {} from here on, so that losses differ in their last digits\n", what, then, now);
  };
  const auto type = [](DType t) { return std::string(name_of(t)); };
  note("type of products", type(saved.options.compute), type(asked.options.compute));
  note("type of the stored decoder", type(saved.options.decoder_storage), type(asked.options.decoder_storage));
  const auto logits = [](const Manifest& m) { return std::string(m.options.keep_logits ? "kept" : "computed twice"); };
  if (asked.options.compute != model.options.real()) note("logits", logits(saved), logits(asked));
}

void Checkpoints::restore_into(Session& session) const {
  const auto begin = std::chrono::steady_clock::now();
  go_on(session, *from_, !settings_.no_verify, settings_.convert);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  print_out("resuming from {}: {} steps are done ({} in {:.3f} s)\n", from_->path(), from_->manifest().standing.steps,
            settings_.no_verify ? "loaded" : "verified and loaded", took.count());
}

void Checkpoints::start(const Session& session, const Manifest& manifest) {
  if (on()) saver_.emplace(session, manifest, *directory_);
}

bool Checkpoints::save(const Standing& standing, Log& log, bool last) {
  const auto begin = std::chrono::steady_clock::now();
  report(log, true);
  const auto& entries = directory_->entries();
  if (!entries.empty() && entries.back().step == standing.steps) return true;
  log.sync();  // a power cut must not leave a checkpoint without the log lines before it
  saver_->begin(standing);
  pause_ms_ = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
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
