// corpus: turns text into the token files that the engine trains on.
#include "tools/common/program.h"
#include "tools/corpus/commands.h"

int main(int argc, char** argv) {
  CLI::App app("", neurogen::typed_name(argv[0]));
  neurogen::add_corpus(app);
  return neurogen::run_program(app, argc, argv, 0);
}
