// plan: what will lie where, to the byte, on any machine, without touching a device.
#include "tools/common/plan_command.h"
#include "tools/common/program.h"

int main(int argc, char** argv) {
  CLI::App app("Predicts exactly how a training step uses memory: a table, one JSON object, or a picture.", "plan");
  neurogen::add_standard_options(app, "plan");
  int status = 0;
  neurogen::add_plan(app, status);
  const int failure = neurogen::run_program(app, argc, argv);
  return failure ? failure : status;
}
