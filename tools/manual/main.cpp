// manual: writes a program's manual page and its completion for three shells.
#include <fmt/format.h>

#include <filesystem>
#include <fstream>

#include "tools/corpus/commands.h"
#include "tools/manual/manual.h"
#include "tools/neurogen-engine/commands.h"
#include "tools/plan/program.h"

int main(int argc, char** argv) {
  using namespace neurogen;
  int status = 0;
  const std::string program = argc == 6 ? argv[1] : "";
  CLI::App app("", program);
  if (program == kPrograms[0]) add_commands(app, status);
  else if (program == kPrograms[1]) add_corpus(app);
  else if (program == kPrograms[2]) add_plan_program(app, status);
  else
    return fmt::print(stderr, "manual: use manual PROGRAM PAGE BASH ZSH FISH, with PROGRAM one of {}\n",
                      fmt::join(kPrograms, ", ")),
           2;
  const std::string texts[] = {manual_page(app), bash_completion(app), zsh_completion(app), fish_completion(app)};
  for (int i = 0; i < 4; ++i) {
    const std::filesystem::path path = argv[2 + i];
    std::filesystem::create_directories(path.parent_path());
    std::ofstream file(path);
    if (!(file << texts[i]).flush()) return fmt::print(stderr, "manual: {} cannot be written\n", path.string()), 1;
  }
}
