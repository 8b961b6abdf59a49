// What a run logs about its inside, for `report`: the program's operations once; how long each took in the step before a
// held-out evaluation; and, after the evaluation, what the modules do and what the brain would say.
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
  // All must outlive it. Everything is allocated when this returns; where not `on`, nothing is, and nothing is observed.
  Observer(Session& session, const Texts& texts, bool on);

  // Before anything is sealed: {"event":"program","step","operations":[name, ...]}, those of the plan, of which a step runs the
  // first; `step`: after which the run begins.
  void log_program(Log& log, std::int64_t step) const;
  void time_next_step();
  // {"event":"times","step","ms":[...]}, one an operation of a step.
  void log_times(Log& log, std::int64_t step);
  // {"event":"activity","step","tokens","modules":{NAME:{"mean","spread","dead","saturated","time_constants":[5]}},
  //  "gates":{"mean","open","shut"}}, meanings in engine/run/activity.h, and with a tokenizer
  // {"event":"sample","step","prompt","text"}. Does nothing without a held-out text.
  void log_evaluation(Log& log, std::int64_t step);

 private:
  void log_sample(Log& log, std::int64_t step);
  void put_text(std::span<const std::int32_t> tokens);

  Session& session_;
  const Tokenizer* tokenizer_;
  bool on_;
  std::vector<double> times_;  // of a step's operations, milliseconds
  std::optional<ActivityMeter> meter_;
  std::optional<SampleWriter> writer_;
  std::optional<Speech> speech_;
  std::string line_;  // reserved
};

}  // namespace neurogen
