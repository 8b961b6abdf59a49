// A run's log, read for a report.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace neurogen {

// One object:
//   file, seed, device, arch, plan            of the latest "start" or "resume"; the plan as `plan --json` prints it
//   operations [name, ...]                    of "program"
//   steps {step: [...], tokens: [...], ...}   columns of the "step" events, each `every`-th one and the last
//   evals, activity, samples [...]            these events, thinned where there are thousands
//   times, summary                            the latest of these events, null without one
// Nothing in it but what the log holds. Throws Error that names the file and the line for what is no log of `train`; a last line
// that was cut short is left out.
nlohmann::ordered_json read_run_log(const std::string& file);

}  // namespace neurogen
