// Shows the inside of a run, for `report` and the terminal: the program's operations once; the time of each in the step before a
// held-out evaluation; after it, the modules' activity and a sample of the model's text.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "engine/files/log.h"
#include "engine/run/activity.h"
#include "engine/run/sample.h"
#include "engine/run/session.h"
#include "engine/run/speech.h"
#include "tools/neurogen-engine/text.h"

namespace neurogen {

class Observer {
 public:
  // Allocates everything. All arguments must outlive it. `logged`: there is a log; without one only sample() does anything.
  Observer(Session& session, const Texts& texts, bool logged);

  // Logs {"event":"program","step","operations":[name, ...]}, the plan's operations; a training step runs the first of them.
  // `step`: the step after which the run begins. Allocates, so call it before the seal.
  void log_program(Log& log, std::int64_t step) const;
  void time_next_step();
  // Logs {"event":"times","step","ms":[...]}, one time per operation of a step, or of its first micro-batch.
  void log_times(Log& log, std::int64_t step);
  // Logs {"event":"activity","step","tokens","modules":{NAME:{"mean","spread","dead","saturated","time_constants":[5]}},
  //  "gates":{"mean","open","shut"}}; engine/run/activity.h defines them. Does nothing without a held-out text.
  void log_activity(Log& log, std::int64_t step);
  // Logs {"event":"sample","step","prompt","text"}. Returns the same as a line for a terminal, valid until the next call; empty
  // without a held-out text or a tokenizer.
  std::string_view sample(Log& log, std::int64_t step);

 private:
  template <typename Append>
  void put_text(std::span<const std::int32_t> tokens, Append&& append);  // appends to line_

  Session& session_;
  const Tokenizer* tokenizer_;
  bool logged_;
  std::vector<double> times_;  // milliseconds of a step's operations
  std::optional<ActivityMeter> meter_;
  std::optional<SampleWriter> writer_;
  std::optional<Speech> speech_;
  std::string line_;  // reserved
};

}  // namespace neurogen
