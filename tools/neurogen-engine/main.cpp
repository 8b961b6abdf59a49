// neurogen-engine: trains a brain-shaped language model inside a fixed memory budget, evaluates it, lets it speak.
#include <string>
#include <vector>

#include "engine/run/process.h"
#include "engine/run/signals.h"
#include "tools/common/plan_command.h"
#include "tools/common/program.h"
#include "tools/neurogen-engine/commands.h"

namespace neurogen {
HeapCounters counted_heap();  // heap.cpp
void cap_heap(Bytes bytes);
}

int main(int argc, char** argv) {
  neurogen::set_heap_counters(neurogen::counted_heap, neurogen::cap_heap);
  neurogen::expect_file_trouble();
  CLI::App app("Trains a brain-shaped language model inside a memory budget that is planned to the byte.", "neurogen-engine");
  neurogen::add_standard_options(app, "neurogen-engine");
  app.require_subcommand(1);
  app.footer("Without a subcommand: train. Texts are prepared by the program `corpus`.");
  int status = 0;
  neurogen::add_train(*neurogen::add_command(app, "train", "train a brain on a text"), status);
  neurogen::add_evaluate(*neurogen::add_command(app, "eval", "how well a trained brain predicts a text"), status);
  neurogen::add_generate(*neurogen::add_command(app, "generate", "let a trained brain continue a prompt"), status);
  neurogen::add_inspect(*neurogen::add_command(app, "inspect", "what a checkpoint holds"), status);
  neurogen::add_export(*neurogen::add_command(app, "export", "write a checkpoint's weights as safetensors"), status);
  neurogen::add_chat(*neurogen::add_command(app, "chat", "speak with a trained brain"), status);
  neurogen::add_report(*neurogen::add_command(app, "report", "a run's log as a page for a browser"), status);
  neurogen::add_doctor(*neurogen::add_command(app, "doctor", "what this machine has, and what it lacks"), status);
  neurogen::add_plan(*neurogen::add_command(app, "plan", "predict the memory of a training step"), status);
  neurogen::add_bench(*neurogen::add_command(app, "bench", "where a training step's time goes"), status);
  neurogen::add_diagnose(*neurogen::add_command(app, "diagnose", "what holds training up: token by token and in batches"), status);

  // `neurogen-engine --budget 3200M` trains: the subcommand may be left out.
  std::vector<char*> words(argv, argv + argc);
  std::string train = "train";
  const std::string first = argc > 1 ? argv[1] : "";
  if (first.empty() || (first.rfind("--", 0) == 0 && first != "--help" && first != "--version")) words.insert(words.begin() + 1, train.data());
  const int failure = neurogen::run_program(app, static_cast<int>(words.size()), words.data());
  return failure ? failure : status;
}
