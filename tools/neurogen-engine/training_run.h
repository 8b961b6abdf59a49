// One training run from the first step to the summary: the loop, its log and its output.
#pragma once
#include <chrono>
#include <cstdint>
#include <vector>

#include "arena/report.h"
#include "engine/files/log.h"
#include "engine/run/evaluator.h"
#include "engine/run/process.h"
#include "engine/run/session.h"
#include "engine/run/trainer.h"
#include "tools/common/progress.h"
#include "tools/neurogen-engine/observer.h"
#include "tools/neurogen-engine/run_length.h"
#include "tools/neurogen-engine/train_settings.h"

namespace neurogen {

class TrainingRun {
 public:
  // All arguments except the log must outlive the run. `steps`: length of the whole run, 0: not known yet. With several ranks this
  // is rank 0's, and the others follow() (follower.h).
  TrainingRun(const TrainSettings& settings, Session& session, const Texts& texts, std::int64_t steps, Checkpoints& checkpoints,
              Ranks& ranks, Log log);

  // Logs the start of the run; a resumed run first removes the log lines of steps that it will repeat. Throws Error if the log
  // cannot be written. `identity`: LoggedRun's.
  void log_start(const ReportFacts& facts, const std::string& identity);

  // Returns the exit status: 0; 1 if the last checkpoint could not be saved or the log lacks lines; or 128 plus the signal that
  // ended the run. Allocates nothing from the first step to the last save. Throws Error if arenas and measured overhead exceed the
  // budget, and for losses or parameters that are not finite.
  int train();

 private:
  struct Allocations {
    std::uint64_t host, driver;  // heap_counters
  };
  struct Counts {
    Allocations allocations;                            // since the seal
    std::int64_t device_allocations, synchronizations;  // since the seal; in this step
  };

  int run_to_the_end();
  Allocations allocations_since_the_seal() const;

  std::int64_t tokens() const { return trainer_.step() * session_.model.options.step_tokens(); }
  std::int64_t own_steps() const { return trainer_.step() - first_; }  // done in this process
  std::int64_t own_tokens() const { return own_steps() * session_.model.options.step_tokens(); }
  std::int64_t tokens_of_rank() const { return session_.model.options.step_tokens() / session_.model.options.ranks; }  // in a step
  double rate() const { return static_cast<double>(own_tokens()) / std::max(length_.training_seconds(), 1e-9); }

  bool evaluates_after(std::int64_t step) const;
  std::int64_t evaluations_due(std::int64_t step) const;
  std::int64_t most_evaluated() const;
  std::int64_t batches(std::int64_t tokens) const;
  void evaluate_before();
  void evaluate(bool whole);
  void evaluate_others();
  bool affords_sample() const;
  double seconds_for_the_end() const;
  bool save(bool last);
  void complain_of_log();
  void report(const StepResult& result, double seconds, Counts counts);
  void summarise();

  const TrainSettings& settings_;
  Session& session_;
  const Texts& texts_;
  Checkpoints& checkpoints_;
  Ranks& ranks_;
  Orders orders_;
  Trainer trainer_;
  Evaluator evaluator_;
  Observer observer_;
  Log log_;
  Progress progress_;
  RunLength length_;
  std::int64_t first_;           // steps done before this process
  std::int64_t evaluated_ = -1;  // the step of the last evaluation
  std::int64_t evaluations_;     // default evaluations already due
  std::int64_t samples_ = 0;
  std::int64_t part_ = 0;      // held-out tokens of an evaluation before the last
  std::int64_t compared_ = 0;  // held-out tokens of the evaluations before the first step and after the last, 0: none before
  std::vector<double> before_, after_;                // losses of these on each held-out text
  double evaluation_seconds_ = 0, save_seconds_ = 0;  // latest time of a batch, of a save
  double loss_ = 0, smooth_ = 0, valid_loss_ = 0;
  Bytes overhead_ = 0;  // the largest of all ranks
  bool log_complained_ = false;
  HeapCounters sealed_;
  Allocations allocations_{};
};

}  // namespace neurogen
