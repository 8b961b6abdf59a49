// The program plan, which only predicts memory. It is called plan in the build folder and neurogen-plan when installed.
#pragma once
#include "tools/common/plan_command.h"
#include "tools/common/program.h"

namespace neurogen {

inline void add_plan_program(CLI::App& app, int& status) {
  app.description("Predicts exactly how a training step uses memory: a table, one JSON object, or a picture.");
  add_standard_options(app, app.get_name());
  add_plan(app, status);
}

}  // namespace neurogen
