#include "tools/neurogen-engine/commands.h"

#include "tools/common/plan_command.h"
#include "tools/common/program.h"

namespace neurogen {

void add_commands(CLI::App& app, int& status) {
  app.name("neurogen-engine");
  app.description("Trains a brain-shaped language model inside a memory budget that is planned to the byte.");
  add_standard_options(app, app.get_name());
  app.require_subcommand(1);
  app.footer("Without a subcommand: train. Texts are prepared by the program `corpus`.");
  add_train(*add_command(app, "train", "train a brain on a text"), status);
  add_evaluate(*add_command(app, "eval", "how well a trained brain predicts a text"), status);
  add_generate(*add_command(app, "generate", "let a trained brain continue a prompt"), status);
  add_inspect(*add_command(app, "inspect", "what a checkpoint holds"), status);
  add_export(*add_command(app, "export", "write a checkpoint's weights as safetensors"), status);
  add_chat(*add_command(app, "chat", "speak with a trained brain"), status);
  add_report(*add_command(app, "report", "a run's log as a page for a browser"), status);
  add_doctor(*add_command(app, "doctor", "what this machine has, and what it lacks"), status);
  add_plan(*add_command(app, "plan", "predict the memory of a training step"), status);
  add_bench(*add_command(app, "bench", "where a training step's time goes"), status);
  add_diagnose(*add_command(app, "diagnose", "what holds training up: token by token and in batches"), status);
}

}  // namespace neurogen
