#include "tools/neurogen-engine/commands.h"

#include "tools/common/plan_command.h"
#include "tools/common/program.h"

namespace neurogen {

void add_commands(CLI::App& app, int& status) {
  app.name("neurogen-engine");
  app.description("Trains a language model, a brain or a transformer, inside a memory budget that is planned to the byte.");
  add_standard_options(app, app.get_name());
  app.require_subcommand(1);
  app.footer("Without a subcommand it trains. The program `corpus` prepares texts.");
  add_train(*add_command(app, "train", "train a model on a text"), status);
  add_evaluate(*add_command(app, "eval", "measure how well a trained model predicts a text"), status);
  add_generate(*add_command(app, "generate", "continue a prompt with a trained model"), status);
  add_inspect(*add_command(app, "inspect", "show what a checkpoint or pretrained weights hold"), status);
  add_export(*add_command(app, "export", "write trained weights as safetensors, for transformers or for llama.cpp"), status);
  add_chat(*add_command(app, "chat", "talk with a trained model"), status);
  add_report(*add_command(app, "report", "turn a run's log into a page for a browser"), status);
  add_doctor(*add_command(app, "doctor", "show what this machine has, lacks and can train"), status);
  add_plan(*add_command(app, "plan", "predict the memory of a training step"), status);
  add_bench(*add_command(app, "bench", "measure where a training step's time goes"), status);
  add_diagnose(*add_command(app, "diagnose", "find what limits training, token by token and in batches"), status);
}

}  // namespace neurogen
