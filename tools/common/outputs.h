// A slip of the hand must not cost a text: no output of a program is one of its inputs, nor another output.
#pragma once
#include <string>
#include <vector>

namespace neurogen {

struct NamedFile {
  std::string name;  // in messages: the option of an output; put in front of an input's path
  std::string path;  // empty: not given. An input that does not exist, such as a preset's name or "-", is nobody's
};

std::vector<NamedFile> named(const std::string& name, const std::vector<std::string>& paths);

// Throws Error where two paths lead to one file, there or not, under whatever spelling and through whatever links, unless both are
// inputs; and for an output with the name of a checkpoint in the directory `checkpoints`, if one is given.
void check_outputs(const std::vector<NamedFile>& inputs, const std::vector<NamedFile>& outputs,
                   const std::string& checkpoints = "");

}  // namespace neurogen
