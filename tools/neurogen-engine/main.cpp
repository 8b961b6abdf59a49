// neurogen-engine: trains a language model inside a fixed memory budget, evaluates it, generates text with it.
#include <string>
#include <vector>

#include "arena/allocations.h"
#include "engine/run/process.h"
#include "tools/common/program.h"
#include "tools/neurogen-engine/commands.h"

namespace neurogen {
HeapCounters counted_heap();  // heap.cpp
void cap_heap(Bytes bytes);
}  // namespace neurogen

int main(int argc, char** argv) {
  neurogen::AllocationAccount ours{0};  // for this thread and those that it starts
  const neurogen::ChargeAllocations charge(&ours);
  neurogen::set_heap_counters(neurogen::counted_heap, neurogen::cap_heap);
  CLI::App app;
  int status = 0;
  neurogen::add_commands(app, status);

  // The subcommand train may be left out: `neurogen-engine --budget 3200M`.
  std::vector<char*> words(argv, argv + argc);
  std::string train = "train";
  const std::string first = argc > 1 ? argv[1] : "";
  if (first.empty() || (first.rfind("--", 0) == 0 && first != "--help" && first != "--version"))
    words.insert(words.begin() + 1, train.data());
  return neurogen::run_program(app, static_cast<int>(words.size()), words.data(), status);
}
