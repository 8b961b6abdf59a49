// Reads a run's log for a report.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace neurogen {

// One object:
//   file, seed, device, arch, plan            of the latest "start" or "resume"; the plan as `plan --json` prints it
//   operations [name, ...]                    of "program"
//   steps {step: [...], tokens: [...], ...}   columns of the "step" events, each `every`-th one and the last
//   evals, activity, samples [...]            these events, thinned if there are thousands
//   times, summary                            the latest of these events, null without one
// Contains only what the log holds. Ignores a last line that was cut short. Throws Error that names file and line if it is not a
// log of `train`.
nlohmann::ordered_json read_run_log(const std::string& file);

}  // namespace neurogen
