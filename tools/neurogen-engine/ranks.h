// The processes of `train` with several GPUs, one a GPU: rank 0 decides, writes and prints; the others make the same steps.
#pragma once
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/ranks/meeting.h"
#include "engine/run/session.h"
#include "engine/run/settings.h"

namespace neurogen {

struct RankSettings {
  std::int64_t gpus = 0;             // processes to start, 0: none, or those of a launcher
  double wait = 60;                  // seconds for a launcher's ranks to come
  std::int64_t compare_every = 100;  // steps
};

void add_rank_settings(CLI::App& app, RankSettings& settings);

class Ranks {
 public:
  // Starts the others or, if a launcher did, finds them; tells `settings` which rank this is. `resumable`: there are checkpoints.
  // Call it while the process has one thread. From here on, every rank but 0 prints nothing. Throws Error, and Dismissed.
  Ranks(const RankSettings& wanted, bool resumable, Settings& settings);
  ~Ranks();

  bool several() const { return meeting_ != nullptr; }
  bool leads() const { return !meeting_ || meeting_->world().leads(); }
  int size() const { return meeting_ ? meeting_->world().size : 1; }
  std::int64_t compare_every() const { return wanted_.compare_every; }

  // Does this rank's work and returns the exit status (Meeting::run). With one rank, that is all that this class does.
  int run(const std::function<int()>& work);

  // All ranks call these alike.
  void agree(std::string_view what, std::string_view text);  // throws Error on rank 0 if a rank has another text
  std::string from_rank_zero(const std::string& text);       // rank 0's
  void connect(Resolved& resolved);                          // how sessions exchange

  // A signal to this process or to another rank that ends the run; 0: none.
  int stopped() const;
  // On rank 0: the others are needed no more.
  void release();

 private:
  friend class Orders;

  RankSettings wanted_;
  std::unique_ptr<Meeting> meeting_;  // null: one rank
  struct Memory;
  std::unique_ptr<Memory> memory_;  // that ranks on CPUs share
};

// Rank 0's orders to the others during training. With one rank they do nothing.
class Orders {
 public:
  // Allocates everything. Both must outlive it. The session's parameters are complete.
  Orders(Ranks& ranks, Session& session);

  // A step, of a run of `steps` as Trainer::run_step has it. `timed`: each operation is timed. `compare`: whether compare()
  // follows.
  struct Step {
    std::int64_t steps;
    bool timed, compare;
  };
  bool compares_after(std::int64_t step) const {
    return ranks_.several() && ranks_.compare_every() > 0 && step % ranks_.compare_every() == 0;
  }
  void step(Step step);        // on rank 0
  void stepped();              // on rank 0, when the step ordered last is done
  void finish();               // on rank 0, instead of a step
  std::optional<Step> next();  // on other ranks: the order, none at the end
  // On all ranks, before anything is saved or exported: completes the parameters and the optimizer's state, and throws Error on
  // rank 0 if they differ after `step`, naming the first tensor. Allocates nothing else.
  void compare(std::int64_t step);
  // On all ranks: the largest of their values, on rank 0.
  Bytes largest(Bytes mine);

 private:
  Ranks& ranks_;
  Session& session_;
  std::vector<std::uint64_t> all_;  // of all ranks
  std::chrono::steady_clock::time_point begin_;
  std::int64_t steps_ = 0;
  double longest_ = 0;  // seconds of a step
};

}  // namespace neurogen
