// The program plan: predicting memory as the only thing that it does.
#pragma once
#include "tools/common/plan_command.h"
#include "tools/common/program.h"

namespace neurogen {

inline void add_plan_program(CLI::App& app, int& status) {
  app.name("plan");
  app.description("Predicts exactly how a training step uses memory: a table, one JSON object, or a picture.");
  add_standard_options(app, app.get_name());
  add_plan(app, status);
}

}  // namespace neurogen
