// The checkpoints of one training run: where it goes on from, and what it saves.
#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>

#include "engine/files/log.h"
#include "engine/run/saver.h"
#include "tools/common/settings.h"

namespace neurogen {

struct CheckpointSettings {
  std::string directory;
  std::int64_t save_every = 500, keep = 3;
  bool keep_best = false, resume = false, convert = false, no_verify = false;
};

void add_checkpoint_settings(CLI::App& app, CheckpointSettings& settings);

class Checkpoints {
 public:
  // Takes the directory, and with --resume opens its newest file. `evaluates`: there is a held-out text. Throws Error for
  // settings that contradict each other, and for a directory that holds another run.
  Checkpoints(const CheckpointSettings& settings, bool evaluates);

  bool on() const { return directory_.has_value(); }
  // The checkpoint to go on from, null for a fresh run.
  const Checkpoint* from() const { return from_ ? &*from_ : nullptr; }
  Standing standing() const { return from_ ? from_->manifest().standing : Standing{}; }
  // What the file decides where the command line leaves it open.
  void adopt(Settings& settings) const;
  // Throws Error where the run asked for is not the one that was saved; says what differs without changing what is learned.
  void check(const Manifest& asked) const;
  // Fills the session from the file.
  void restore_into(Session& session) const;

  // From here on save() may be called. Everything is allocated now.
  void start(const Session& session, const Manifest& manifest);
  bool due(std::int64_t step) const { return on() && settings_.save_every > 0 && step % settings_.save_every == 0; }
  bool wants_evaluation() const { return settings_.keep_best; }
  // Unless it is saved already. Reports the save before and, where it is over by then, this one. `last`: training has ended, so it
  // is waited for; returns whether it is saved. Allocates nothing, as report(), unless it throws.
  bool save(const Standing& standing, Log& log, bool last);
  // What became of a save, once it is known, into the log; why it failed, on standard error. Throws Error for values that are not
  // finite. `wait`: until it is known. Returns whether no failure was reported.
  bool report(Log& log, bool wait);
  // The newest file's name, empty where there is none.
  std::string newest() const;

 private:
  CheckpointSettings settings_;
  std::optional<CheckpointDirectory> directory_;
  std::optional<Checkpoint> from_;
  std::optional<Saver> saver_;
  std::string path_json_;  // the directory's name, escaped
  // Of the save that is to be reported.
  std::int64_t step_ = 0;
  double pause_ms_ = 0;  // for which training stood still
  bool last_ = false;
};

}  // namespace neurogen
