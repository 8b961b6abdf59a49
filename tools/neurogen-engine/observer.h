// What a run shows of its inside, for `report` and the terminal: the program's operations once; how long each took in the step
// before a held-out evaluation; and, after it, what the modules do and what the model would write.
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
  // All must outlive it. Everything is allocated when this returns. `logged`: there is a log; without one only sample() works.
  Observer(Session& session, const Texts& texts, bool logged);

  // Before anything is sealed: {"event":"program","step","operations":[name, ...]}, those of the plan, of which a step runs the
  // first; `step`: after which the run begins.
  void log_program(Log& log, std::int64_t step) const;
  void time_next_step();
  // {"event":"times","step","ms":[...]}, one an operation of a step.
  void log_times(Log& log, std::int64_t step);
  // {"event":"activity","step","tokens","modules":{NAME:{"mean","spread","dead","saturated","time_constants":[5]}},
  //  "gates":{"mean","open","shut"}}, meanings in engine/run/activity.h. Does nothing without a held-out text.
  void log_activity(Log& log, std::int64_t step);
  // {"event":"sample","step","prompt","text"}. Returns the same as a line for a terminal, valid until the next call; empty without
  // a held-out text or a tokenizer.
  std::string_view sample(Log& log, std::int64_t step);

 private:
  template <typename Append>
  void put_text(std::span<const std::int32_t> tokens, Append&& append);  // to the end of line_

  Session& session_;
  const Tokenizer* tokenizer_;
  bool logged_;
  std::vector<double> times_;  // of a step's operations, milliseconds
  std::optional<ActivityMeter> meter_;
  std::optional<SampleWriter> writer_;
  std::optional<Speech> speech_;
  std::string line_;  // reserved
};

}  // namespace neurogen
