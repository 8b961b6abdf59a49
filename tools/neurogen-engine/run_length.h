// The length of a training run: a number of steps, or minutes of wall-clock time, from which the number of steps is estimated anew
// after every step, so that the learning rates have decayed when the time is up.
#pragma once
#include <chrono>
#include <cstdint>

namespace neurogen {

class RunLength {
 public:
  // `steps`: length of the whole run, 0: not known yet. `first`: steps done by earlier processes. `minutes`: limit for this
  // process, 0: none.
  RunLength(std::int64_t steps, double minutes, std::int64_t first);

  // Starts the clock of --minutes.
  void start() { begin_ = Clock::now(); }
  // Call after step `step`, which took `seconds`. `reserve`: seconds needed after the last step to evaluate and save.
  void step_done(std::int64_t step, double seconds, double reserve);

  std::int64_t steps() const { return steps_; }  // length of the whole run by the latest estimate, 0: not known yet
  bool over(std::int64_t step) const { return out_of_time_ || (steps_ > 0 && step >= steps_); }
  double elapsed() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }
  double training_seconds() const { return training_seconds_; }  // in steps only
  double share(std::int64_t step) const;                         // share of the time or steps that is over, 0 to 1
  bool has(double seconds) const { return limit_ == 0 || elapsed() + seconds < limit_; }
  double seconds_left(std::int64_t step) const;  // estimate

 private:
  using Clock = std::chrono::steady_clock;

  std::int64_t steps_, most_;  // most_: an earlier process's estimate, which this one may shorten but not extend
  std::int64_t first_;
  double limit_;  // seconds, 0: none
  double per_step_ = 0, training_seconds_ = 0;
  bool out_of_time_ = false;
  Clock::time_point begin_ = Clock::now();
};

}  // namespace neurogen
