// Running one of our programs as a person does, in a directory of the test's.
#pragma once
#include <sys/wait.h>

#include <cstdlib>
#include <string>

#include "tests/temporary_directory.h"

namespace neurogen {

struct ProgramResult {
  int status;  // 128 + signal where one ended it
  std::string out, err;
};

// `command`: the program's name and its arguments, in the shell's language.
inline ProgramResult run_program_in(const TemporaryDirectory& directory, const std::string& command) {
  const std::string line = "cd " + directory.path("") + " && timeout 60 " NEUROGEN_BIN "/" + command;
  const int status = std::system(("( " + line + " ) >" + directory.path(".out") + " 2>" + directory.path(".err")).c_str());
  ProgramResult result{WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(directory.path(".out")),
                       read_file(directory.path(".err"))};
  std::filesystem::remove(directory.path(".out"));
  std::filesystem::remove(directory.path(".err"));
  return result;
}

}  // namespace neurogen
