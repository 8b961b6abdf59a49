// plan: predicts the memory of a training step to the byte, without touching a device.
#include "tools/plan/program.h"

int main(int argc, char** argv) {
  CLI::App app("", neurogen::typed_name(argv[0]));
  int status = 0;
  neurogen::add_plan_program(app, status);
  return neurogen::run_program(app, argc, argv, status);
}
