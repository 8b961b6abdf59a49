// The folders of the programs and of the source files, found from the test program, in a build and in a folder of `make dist`.
#pragma once
#include <filesystem>
#include <string>

namespace neurogen {

inline std::string programs_folder() { return std::filesystem::read_symlink("/proc/self/exe").parent_path().string(); }
inline std::string source_folder() { return programs_folder() + "/../source"; }

}  // namespace neurogen
