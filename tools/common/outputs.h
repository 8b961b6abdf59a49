// Guards against overwriting by mistake: no output of a program may be one of its inputs or another output.
#pragma once
#include <string>
#include <vector>

namespace neurogen {

struct NamedFile {
  std::string name;  // for messages: an output's option; a prefix of an input's path
  std::string path;  // empty: not given. Inputs that do not exist, such as a preset's name or "-", are ignored
};

std::vector<NamedFile> named(const std::string& name, const std::vector<std::string>& paths);

// Throws Error if two paths lead to one file, existing or not, in any spelling and through any links, unless both are inputs; and
// for an output with the name of a checkpoint in the directory `checkpoints`, if one is given.
void check_outputs(const std::vector<NamedFile>& inputs, const std::vector<NamedFile>& outputs,
                   const std::string& checkpoints = "");

}  // namespace neurogen
