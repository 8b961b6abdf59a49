// The checkpoints of one training run: the one that it resumes from, and those that it saves.
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

// What --resume must find unchanged, besides the architecture and the text: how a sentence names it, and its value.
struct Fact {
  const char* name;
  std::string value;
};
std::vector<Fact> facts_of(const Manifest& run);

// A hash of all that --resume must find unchanged, in hexadecimal: equal for the parts of one run.
std::string identity_of(Manifest run);

class Checkpoints {
 public:
  // Locks the directory, and with --resume opens its newest file. `evaluates`: there is a held-out text. Throws Error for
  // settings that contradict each other, and for a directory that another run uses or has filled.
  Checkpoints(const CheckpointSettings& settings, bool evaluates);
  // For a rank that saves nothing and resumes from the same file as rank 0; none if it is empty.
  Checkpoints(const CheckpointSettings& settings, const std::string& from);

  bool on() const { return directory_.has_value(); }
  // The checkpoint to resume from, null for a new run.
  const Checkpoint* from() const { return from_ ? &*from_ : nullptr; }
  Standing standing() const { return from_ ? from_->manifest().standing : Standing{}; }
  // Takes from the file what the command line leaves open.
  void adopt(Settings& settings) const;
  // Throws Error if the run asked for is not the saved one. Prints the differences that only change last digits.
  void check(const Manifest& asked, const Model& model) const;
  // Fills the session from the file.
  void restore_into(Session& session) const;

  // Allocates everything for save(), which may be called from now on.
  void start(const Session& session, const Manifest& manifest);
  bool due(std::int64_t step) const { return on() && settings_.save_every > 0 && step % settings_.save_every == 0; }
  bool wants_evaluation() const { return settings_.keep_best; }
  // Begins to save, unless this step is saved already, after reporting the save before. Reports this one too if it is over by then.
  // `last`: training has ended, so waits for it and returns whether it is saved. Like report(), allocates only when it throws.
  bool save(const Standing& standing, Log& log, bool last);
  // Logs the result of the save begun last, once it is known, and prints the reason of a failure on standard error. `wait`: until
  // it is known. Returns whether no failure was reported. Throws Error for values that are not finite.
  bool report(Log& log, bool wait);
  // The newest file's name, empty if there is none.
  std::string newest() const;

 private:
  CheckpointSettings settings_;
  std::optional<CheckpointDirectory> directory_;
  std::optional<Checkpoint> from_;
  std::optional<Saver> saver_;
  std::string path_json_;  // the directory's name, escaped
  // The save to be reported.
  std::int64_t step_ = 0;
  double pause_ms_ = 0;  // time that training stood still
  bool last_ = false;
};

}  // namespace neurogen
