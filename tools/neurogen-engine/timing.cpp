#include "tools/neurogen-engine/timing.h"

#include <algorithm>
#include <map>

#include "arena/report.h"
#include "engine/run/training_step.h"
#include "kernels/base/random.h"
#include "kernels/base/step_control.h"
#include "tools/common/card.h"

namespace neurogen {

void random_batch(const Session& session, std::uint64_t index) {
  const TensorView batch = session.program.view(session.model.ports.batch);
  const auto vocabulary = static_cast<std::uint64_t>(session.model.architecture->vocabulary());
  for (std::int64_t i = 0; i < batch.elements(); ++i) {
    batch.as<std::int32_t>()[i] = static_cast<std::int32_t>(below(vocabulary, 1, index, static_cast<std::uint64_t>(i)));
  }
}

double run_step(Session& session, std::int64_t i) {
  *session.program.view(session.model.ports.control).as<StepControl>() = {i, 1e-4f, 1e-4f, 1e-4f, 1e-4f};
  return run_programs(session.model, session.program, [](std::int64_t) {}).milliseconds / 1e3;
}

double training_step(Session& session, std::int64_t i) {
  random_batch(session, static_cast<std::uint64_t>(i));
  return run_step(session, i);
}

std::vector<OperationTimes> time_operations(Session& session, const Limits& limits, std::int64_t repeats) {
  std::map<std::string, OperationTimes> families;
  const auto time = [&](Graph::Range program, std::int64_t runs) {  // runs: in a step
    if (program.begin == program.end) return;
    std::vector<double> milliseconds(program.end - program.begin);
    session.program.prepare_times(program);
    const auto each = static_cast<double>(runs);
    for (std::int64_t i = 0; i <= repeats; ++i) {
      session.program.time_next_run(milliseconds);
      training_step(session, i);
      for (std::size_t o = program.begin; o < program.end; ++o) {
        const Operation& operation = session.model.graph.operations()[o];
        OperationTimes& family = families[family_of(operation.name)];
        const Cost cost = operation.cost;
        const double floor = floor_seconds(operation, limits.bytes_per_s, limits.flops_per_s);
        if (i == 0) family += {"", runs, 0, each * floor, each * cost.flops, each * cost.bytes};
        else family.seconds += each * milliseconds[o - program.begin] / 1e3 / static_cast<double>(repeats);
      }
    }
  };
  time(session.model.programs.train, session.model.options.accumulate);
  time(session.model.programs.end_step, 1);
  std::vector<OperationTimes> sorted;
  for (auto& [name, family] : families) {
    family.name = name;
    sorted.push_back(family);
  }
  std::sort(sorted.begin(), sorted.end(), [](const OperationTimes& a, const OperationTimes& b) { return a.seconds > b.seconds; });
  return sorted;
}

}  // namespace neurogen
