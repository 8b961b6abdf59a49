// Runs one of our programs as a user does, in the test's directory.
#pragma once
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <string>

#include "tests/folders.h"
#include "tests/temporary_directory.h"

namespace neurogen {

// A small brain, as an architecture file.
inline constexpr char kTestBrain[] = R"({"name": "test", "vocabulary": 300, "embedding": 32, "pairs": 40, "softcap": 30,
  "thalamus": {"neurons": 64, "outputs": 32, "fan_in": 32}, "wernicke": {"neurons": 192, "outputs": 64, "fan_in": 48},
  "hippocampus": {"neurons": 256, "outputs": 64, "fan_in": 32}, "basal_ganglia": {"neurons": 64, "outputs": 32, "fan_in": 32},
  "prefrontal": {"neurons": 256, "outputs": 64, "fan_in": 32}, "broca": {"neurons": 320, "outputs": 64, "fan_in": 32}})";

struct ProgramResult {
  int status;  // 128 + signal if one ended it
  std::string out, err;
};

// `command`: the program's name and arguments in shell syntax; `before` is put in front.
inline ProgramResult run_program_in(const TemporaryDirectory& directory, const std::string& command,
                                    const std::string& before = "") {
  const std::string line = "cd " + directory.path("") + " && timeout 60 " + before + " " + programs_folder() + "/" + command;
  const int status = std::system(("( " + line + " ) >" + directory.path(".out") + " 2>" + directory.path(".err")).c_str());
  ProgramResult result{WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(directory.path(".out")),
                       read_file(directory.path(".err"))};
  std::filesystem::remove(directory.path(".out"));
  std::filesystem::remove(directory.path(".err"));
  return result;
}

// Writes brain.json; text.txt, 300 lines such as "line 7 has the number 49", with `between` and `end` around the second number; and
// t.model, a tokenizer of that text.
inline void make_numbered_text(const TemporaryDirectory& directory, const std::string& between, const std::string& end) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += "line " + std::to_string(i) + between + std::to_string(i * i % 97) + end;
  directory.file("text.txt", text);
  directory.file("brain.json", kTestBrain);
  ASSERT_EQ(run_program_in(directory, "corpus train-tokenizer text.txt --vocabulary 300 --out t.model").status, 0);
}

}  // namespace neurogen
